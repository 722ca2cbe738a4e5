// CONNECT over HTTP/2 by Node's own client: node node_connect.js PORT AUTHORITY [CA]
// Sends what comes on its input into the tunnel, ends it, and prints the status and what came back.
'use strict';

const fs = require('fs');
const http2 = require('http2');

const [port, authority, ca] = process.argv.slice(2);
const options = ca ? { ca: fs.readFileSync(ca), servername: 'web.mesh' } : {};
const session = http2.connect(`${ca ? 'https' : 'http'}://127.0.0.1:${port}`, options);
session.on('error', (error) => fail(error));

const tunnel = session.request({ ':method': 'CONNECT', ':authority': authority });
const pieces = [];

function fail(error) {
  console.log(JSON.stringify({ status, error: error.code || error.message }));
  process.exit(1);
}

let status = 0;
tunnel.on('response', (headers) => {
  status = headers[':status'];
  process.stdin.pipe(tunnel);
});
tunnel.on('data', (piece) => pieces.push(piece));
tunnel.on('error', (error) => fail(error));
tunnel.on('end', () => {
  console.log(JSON.stringify({ status, body: Buffer.concat(pieces).toString('base64') }));
  session.close();
});
