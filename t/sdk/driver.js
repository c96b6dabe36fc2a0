// Copyright (C) the ngx_http_llm_budget_module authors
//
// Runs the official clients for the tests in Perl: a command in JSON per line
// of standard input, its outcome in JSON per line of standard output.
//
//     node driver.js <folder with node_modules> openai|anthropic
//
// A command: {"call": "chat.completions.create", "args": [...], "client":
// {options of the client}, "stream": true, "leave_after": N}.  leave_after
// ends a stream after N events, by a break out of the loop or, with "abort":
// true, through an AbortController.  "while": a command whose stream is open,
// after its first event, until this one has been refused once or is over.
//
// An outcome: {"value"} or {"events"} or {"error"}, and of each HTTP answer
// that the client got the status in {"tries"}, Retry-After in {"waits"}.

'use strict';

const path = require('path');
const readline = require('readline');
const { createRequire } = require('module');

const [folder, name] = process.argv.slice(2);
const load = createRequire(path.join(folder, 'driver.js'));
const sdk = load(name === 'openai' ? 'openai' : '@anthropic-ai/sdk');
const Client = sdk.default || sdk;


// the class of an error, as a program would find out with instanceof

const CLASSES = ['RateLimitError', 'AuthenticationError', 'BadRequestError',
                 'PermissionDeniedError', 'NotFoundError',
                 'UnprocessableEntityError', 'ConflictError',
                 'InternalServerError', 'APIUserAbortError',
                 'APIConnectionError', 'APIError'];


function describe(error) {
    const known = CLASSES.find((one) => Client[one]
                                        && error instanceof Client[one]);

    return {
        class: known || error.constructor.name,
        status: error.status,
        message: error.message,
        code: error.code,
        type: error.type,
        param: error.param,
        body: error.error,
    };
}


async function read(stream, command, first, abort) {
    const events = [];

    for await (const event of stream) {
        events.push(event);

        if (events.length === 1 && first) {
            await first();
        }

        if (events.length === command.leave_after) {
            if (!command.abort) {
                break;
            }

            abort();
        }
    }

    return events;
}


async function run(command, first, refused) {
    const tries = [];
    const waits = [];
    const control = new AbortController();

    const client = new Client(Object.assign({}, command.client, {
        fetch: async (url, init) => {
            const answer = await fetch(url, init);

            tries.push(answer.status);
            waits.push(answer.headers.get('retry-after'));

            if (answer.status >= 400 && refused) {
                refused();
            }

            return answer;
        },
    }));

    const parts = command.call.split('.');
    const method = parts.pop();
    const owner = parts.reduce((object, part) => object[part], client);
    const [body, options] = command.args;
    const outcome = { tries, waits };

    try {
        if (method === 'list') {
            const page = await owner.list();
            outcome.value = page.data;
            return outcome;
        }

        const answer = await owner[method](body, Object.assign(
            { signal: control.signal }, options));

        if (command.stream) {
            outcome.events = await read(answer, command, first,
                                        () => control.abort());

        } else {
            outcome.value = answer;
        }

    } catch (error) {
        outcome.error = describe(error);
    }

    return outcome;
}


// the other command's stream is left as soon as this one was refused

async function together(command) {
    let inside, leave;
    const open = new Promise((resolve) => { inside = resolve; });
    const over = new Promise((resolve) => { leave = resolve; });

    const other = run(command.while, () => { inside(); return over; });
    await Promise.race([open, other]);

    const outcome = await run(command, null, leave);
    leave();

    outcome.while = await other;
    return outcome;
}


async function main() {
    const lines = readline.createInterface({ input: process.stdin });

    for await (const line of lines) {
        const command = JSON.parse(line);
        const outcome = await (command.while ? together(command)
                                             : run(command));

        process.stdout.write(JSON.stringify(outcome) + '\n');
    }
}


main();
