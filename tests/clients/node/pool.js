// nodemailer's pool, told on stdin what to do: {transport: {…}, from, count}. Prints one line of JSON:
// for each message the server's answer or the error.
'use strict';
const nodemailer = require('nodemailer');

const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const pool = nodemailer.createTransport({ pool: true, ...asked.transport });

const send = async (number) => {
    try {
        const info = await pool.sendMail({
            from: asked.from,
            to: `ann${number}@example.net`,
            messageId: `<${number}@pool.example>`,
            subject: `Number ${number} – Grüße`,
            text: `.\n..\nIt is message ${number}.`,
            html: `<p>It is message ${number}.</p>`,
            attachments: [{ filename: 'all.bin', content: Buffer.from([...Array(256).keys()]) }],
        });
        return { response: info.response };
    } catch (error) {
        return { error: error.message, code: error.responseCode || error.code };
    }
};

Promise.all([...Array(asked.count).keys()].map(send)).then((results) => {
    pool.close();
    console.log(JSON.stringify(results));
});
