// Broadcast as the README of ws shows it: each client's send() for each message.
import { WebSocket, WebSocketServer } from 'ws';

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]), perMessageDeflate: false });

server.on('connection', (socket, request) => {
  socket.on('error', console.error);
  if (request.url !== '/publish') return;
  socket.on('message', (data, isBinary) => {
    server.clients.forEach((client) => {
      if (client !== socket && client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    });
  });
});
