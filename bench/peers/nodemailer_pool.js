// nodemailer's pool: nodemailer_pool.js PORT MESSAGES SESSIONS FIRST SENDER, the body on stdin. Prints one JSON line.
'use strict';
const { createRequire } = require('module');
const nodemailer = createRequire(`${process.cwd()}/`)('nodemailer'); // of the folder it is run in

const [port, messages, sessions, first] = process.argv.slice(2, 6).map(Number);
const sender = process.argv[6];
const text = require('fs').readFileSync(0, 'utf8');
const pool = nodemailer.createTransport({
    host: '127.0.0.1',
    port,
    pool: true,
    maxConnections: sessions,
    maxMessages: Infinity,
    ignoreTLS: true,
});

const began = process.hrtime.bigint();
const sent = [...Array(messages).keys()].map((number) =>
    pool.sendMail({ from: sender, to: `r${first + number}@example.net`, subject: 'Bench', text }));
Promise.all(sent).then(() => {
    console.log(JSON.stringify({ seconds: Number(process.hrtime.bigint() - began) / 1e9 }));
    pool.close();
});
