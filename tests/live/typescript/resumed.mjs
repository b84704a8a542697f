// Call a tool over streams that may be cut: node resumed.mjs URL TOOL ARGUMENTS. What the client saw is printed.
import { connect, within } from './connect.mjs';

const SECONDS = 60;
const [url, tool, argumentsJson] = process.argv.slice(2);
const progress = [];
const resumed = [];
let listens;
const listening = new Promise((resolve) => { listens = resolve; });

async function lookingFetch(target, init) {
    const response = await fetch(target, init);
    if ((init?.method ?? 'GET') === 'GET') {
        if (new Headers(init.headers).has('last-event-id')) resumed.push(response.status);
        listens();
    }
    return response;
}

const { client, transport } = await connect(url, '', { fetch: lookingFetch });
const { tools } = await client.listTools();
// So that the next request that the load balancer sees is the call's.
await within(SECONDS, 'the standalone stream', listening);
const call = (name, given, options) => client.callTool({ name, arguments: given }, undefined, options);
const onprogress = (seen) => progress.push(seen.progress);
const result = await within(SECONDS, 'the result', call(tool, JSON.parse(argumentsJson), { onprogress }));
const again = await call('test_simple_text', {});
await transport.terminateSession();
await client.close();
console.log(JSON.stringify({
    tools: tools.map((one) => one.name), progress, resumed, result, again: again.content[0].text,
}));
