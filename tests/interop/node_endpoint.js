// An endpoint on Node's own HTTP parser. Prints its port, then one JSON line per request that the parser found.
const http = require("http");
const server = http.createServer((request, response) => {
  let size = 0;
  request.on("data", (piece) => { size += piece.length; });
  request.on("end", () => {
    console.log(JSON.stringify({ method: request.method, target: request.url, size: size }));
    response.end("ok");
  });
});
server.on("clientError", (error, socket) => {
  console.log(JSON.stringify({ error: error.code || String(error) }));
  socket.destroy();
});
server.keepAliveTimeout = 60000;
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
