// The official TypeScript client at a URL, with an access token if there is one.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

export async function connect(url, token, { capabilities = {}, prepare = () => {}, fetch } = {}) {
    const client = new Client({ name: 'live', version: '1' }, { capabilities });
    prepare(client);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers }, fetch });
    await client.connect(transport);
    return { client, transport };
}

// What a step takes longer than this never comes.
export function within(seconds, what, promise) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1000);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
