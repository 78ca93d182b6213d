// mailauth's DKIM verifier: stdin holds {records: {name: text}, messages: [base64]}. Prints one line of JSON: for
// each message the results of its signatures, as [{domain, selector, result}].
'use strict';
const { dkimVerify } = require('mailauth/lib/dkim/verify');

const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const resolver = async (name, type) => {
    const found = type === 'TXT' ? asked.records[name] : undefined;
    if (found === undefined) {
        throw Object.assign(new Error('no such record'), { code: 'ENOTFOUND' });
    }
    return [[found]];
};

(async () => {
    const told = [];
    for (const message of asked.messages) {
        const { results } = await dkimVerify(Buffer.from(message, 'base64'), { resolver });
        told.push(
            results.map((one) => ({ domain: one.signingDomain, selector: one.selector, result: one.status.result }))
        );
    }
    console.log(JSON.stringify(told));
})();
