// Call a tool several times in one conversation, each time in a session of its own: node conversation.mjs TOOL TOKEN URL...
import { connect } from './connect.mjs';

const [tool, token, ...urls] = process.argv.slice(2);
const results = [];
let handle;
for (const url of urls) {
    const { client, transport } = await connect(url, token);
    await client.listTools();
    const result = await client.callTool({ name: tool, arguments: handle === undefined ? {} : { handle } });
    await transport.terminateSession();
    await client.close();
    handle = result.structuredContent.handle;
    results.push(result.structuredContent);
}
console.log(JSON.stringify({ results }));
