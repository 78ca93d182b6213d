// Postmark's official client, told on stdin what to call: {host, calls: [{account|server: token, method, args}]}.
// {"$": [call, name, …]} anywhere stands for a value out of an earlier answer. Prints one line of JSON: for each
// call its answer, or the error as the client has it.
'use strict';
const { AccountClient, ServerClient } = require('postmark');

const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const options = { useHttps: false, requestHost: asked.host, timeout: 30 };
const answers = [];

const filled = (value) => {
    if (value === null || typeof value !== 'object') return value;
    if (Array.isArray(value.$)) return value.$.reduce((found, name) => found[name], answers.map((one) => one.ok));
    if (Array.isArray(value)) return value.map(filled);
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, filled(one)]));
};

(async () => {
    for (const call of asked.calls) {
        const { account, server, method, args = [] } = filled(call);
        const client = account ? new AccountClient(account, options) : new ServerClient(server, options);
        try {
            answers.push({ ok: await client[method](...args) });
        } catch (error) {
            const { name, code, statusCode, message } = error;
            answers.push({ error: { name, code, statusCode, message } });
        }
    }
    console.log(JSON.stringify(answers));
})();
