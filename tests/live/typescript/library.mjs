// List the tools with their schemas and make calls: node library.mjs URL TOKEN CALLS, a JSON list of [tool, arguments].
// The client compiles every output schema when it lists, and validates what calls return.
import { connect } from './connect.mjs';

const SECONDS = 20;
const [url, token, callsJson] = process.argv.slice(2);
const gets = [];

async function watchingFetch(target, init) {
    const response = await fetch(target, init);
    if ((init?.method ?? 'GET') === 'GET') {
        gets.push({ accept: new Headers(init?.headers).get('accept'), status: response.status });
    }
    return response;
}

const { client, transport } = await connect(url, token, { fetch: watchingFetch });
const { tools } = await client.listTools();
const results = [];
for (const [name, given] of JSON.parse(callsJson)) results.push(await client.callTool({ name, arguments: given }));
for (const end = Date.now() + SECONDS * 1000; !gets.length; ) {
    if (Date.now() > end) throw new Error('no standalone stream was asked for');
    await new Promise((resolve) => setTimeout(resolve, 20));
}
await transport.terminateSession();
await client.close();
console.log(JSON.stringify({ tools, results, gets }));
