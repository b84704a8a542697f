// Use what only the everything server has: node everything.mjs URL TOKEN.
import {
    ElicitRequestSchema,
    PromptListChangedNotificationSchema,
    ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { connect, within } from './connect.mjs';

const SECONDS = 20;
const [url, token] = process.argv.slice(2);
const seen = { progress: [], questions: [], gets: [] };
let cutStandalone;
let heardTools;
let heardPrompts;

// Passes requests on, notes which streams are opened and resumed, and can cut the standalone stream.
async function watchingFetch(target, init) {
    const response = await fetch(target, init);
    if ((init?.method ?? 'GET') !== 'GET') return response;
    const lastEventId = new Headers(init.headers).get('last-event-id');
    seen.gets.push({ resumed: lastEventId !== null, status: response.status });
    if (!response.body || cutStandalone) return response;
    const reader = response.body.getReader();
    const body = new ReadableStream({
        async pull(controller) {
            const { done, value } = await reader.read();
            if (done) controller.close();
            else controller.enqueue(value);
        },
    });
    cutStandalone = () => reader.cancel();
    return new Response(body, { status: response.status, headers: response.headers });
}

const changes = {
    tools: new Promise((resolve) => { heardTools = resolve; }),
    prompts: new Promise((resolve) => { heardPrompts = resolve; }),
};
const { client, transport } = await connect(url, token, {
    capabilities: { elicitation: {} },
    fetch: watchingFetch,
    prepare: (made) => {
        made.setRequestHandler(ElicitRequestSchema, async (request) => {
            seen.questions.push(request.params.message);
            return { action: 'accept', content: { username: 'ada', email: 'ada@example.org', name: 'Ada', color: 'green' } };
        });
        made.setNotificationHandler(ToolListChangedNotificationSchema, () => heardTools(true));
        made.setNotificationHandler(PromptListChangedNotificationSchema, () => heardPrompts(true));
    },
});

const text = (result) => result.content.map((block) => block.text).join('\n');
const call = async (name, given = {}, options) => text(await client.callTool({ name, arguments: given }, undefined, options));

async function until(what, condition) {
    const end = Date.now() + SECONDS * 1000;
    while (!condition()) {
        if (Date.now() > end) throw new Error(`${what}: not within ${SECONDS} s`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

const report = { tools: (await client.listTools()).tools.length };
report.progressed = await call('test_tool_with_progress', {}, { onprogress: (progress) => seen.progress.push(progress) });
report.elicited = await call('test_elicitation', { message: 'Who are you?' });
report.rounds = await call('test_input_required_result_multi_round');

// The standalone stream is cut, and comes back by itself where it was.
await until('the standalone stream', () => cutStandalone !== undefined);
await call('test_trigger_tool_change');
report.heardTools = await within(SECONDS, 'a change on the standalone stream', changes.tools);
cutStandalone();
await until('the standalone stream to be resumed', () => seen.gets.some((get) => get.resumed));
await call('test_trigger_prompt_change');
report.heardPrompts = await within(SECONDS, 'a change on the resumed stream', changes.prompts);

// The stream of a call is closed by the server in the middle, and resumed by the client.
seen.getsBefore = seen.gets.length;
report.reconnected = await within(SECONDS, 'the result of a resumed call', call('test_reconnection'));
report.resumedCalls = seen.gets.slice(seen.getsBefore).filter((get) => get.resumed && get.status === 200).length;

await transport.terminateSession();
await client.close();
console.log(JSON.stringify({ ...report, ...seen }));
