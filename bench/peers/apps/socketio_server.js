// Broadcast as Socket.IO's documentation shows it: to everyone but the sender.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const http = createServer();
const io = new Server(http, { transports: ['websocket'] });

io.on('connection', (socket) => {
  socket.on('publish', (event) => socket.broadcast.emit('event', event));
});
http.listen(Number(process.argv[2]), '127.0.0.1');
