// Both ends of WebSocket echo with the library ws.
//   node node_websocket.js serve PORT
//   node node_websocket.js talk PORT NAME      prints one JSON object
const WebSocket = require('ws');
const [role, port, name] = process.argv.slice(2);

if (role === 'serve') {
  const server = new WebSocket.Server({ host: '127.0.0.1', port: +port, perMessageDeflate: true, maxPayload: 1 << 24 });
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => {
      if (!isBinary && data.toString() === 'leave') socket.close(4001, 'as you wish');
      else socket.send(data, { binary: isBinary });
    });
  });
} else {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`, {
    headers: { Host: name },
    perMessageDeflate: true,
    maxPayload: 1 << 24,
  });
  const sizes = [0, 1, 125, 126, 65535, 65536, 1000000];
  const sent = sizes.map((size) => Buffer.alloc(size, size % 251));
  const seen = { extensions: '', same: 0, pong: false, code: 0, reason: '' };
  let next = 0;
  socket.on('open', () => {
    seen.extensions = socket.extensions;
    socket.ping('there?');
    socket.send(sent[0]);
  });
  socket.on('pong', (data) => { seen.pong = data.toString() === 'there?'; });
  socket.on('message', (data) => {
    if (data.equals(sent[next])) seen.same += 1;
    next += 1;
    if (next < sent.length) socket.send(sent[next]);
    else socket.send('leave');
  });
  socket.on('close', (code, reason) => {
    seen.code = code;
    seen.reason = reason.toString();
    console.log(JSON.stringify(seen));
  });
  socket.on('error', (error) => { console.log(JSON.stringify({ error: error.message })); });
}
