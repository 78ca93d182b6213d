// nodemailer over SMTP and with nodemailer-postmark-transport, told on stdin what to send:
// {smtp: {…}, postmark: {…}, mails: [{by: "smtp"|"postmark", …}]}. Prints one line of JSON: for each mail the answer or
// the error.
'use strict';
const nodemailer = require('nodemailer');
const postmark = require('nodemailer-postmark-transport');

const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const by = {
    smtp: nodemailer.createTransport({ pool: true, maxConnections: 1, ...asked.smtp }),
    postmark: nodemailer.createTransport(postmark(asked.postmark)),
};

(async () => {
    const answers = [];
    for (const { by: way, ...mail } of asked.mails) {
        try {
            const { messageId, response, accepted } = await by[way].sendMail(mail);
            answers.push({ messageId, response, accepted });
        } catch (error) {
            answers.push({ error: error.message, code: error.responseCode || error.code });
        }
    }
    by.smtp.close();
    console.log(JSON.stringify(answers));
})();
