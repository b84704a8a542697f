// List the tools and call one: node call.mjs URL TOKEN TOOL ARGUMENTS. TOKEN may be empty, ARGUMENTS is a JSON object.
import { connect } from './connect.mjs';

const [url, token, tool, argumentsJson = '{}'] = process.argv.slice(2);
const { client, transport } = await connect(url, token);
const { tools } = await client.listTools();
const result = await client.callTool({ name: tool, arguments: JSON.parse(argumentsJson) });
await transport.terminateSession();
await client.close();
console.log(JSON.stringify({ tools: tools.map((entry) => entry.name), result }));
