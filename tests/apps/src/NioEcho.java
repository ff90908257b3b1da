// SPDX-License-Identifier: Apache-2.0
// NioEcho HOST PORT TEXT: selector server and selector clients in one thread; asynchronous channels; a close while another thread reads.
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.util.*;

public class NioEcho {
    public static void main(String[] args) throws Exception {
        InetSocketAddress to = new InetSocketAddress(args[0], Integer.parseInt(args[1]));
        byte[] text = args[2].repeat(3000).getBytes();
        Selector selector = Selector.open();
        ServerSocketChannel server = ServerSocketChannel.open();
        server.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1])));
        server.configureBlocking(false);
        server.register(selector, SelectionKey.OP_ACCEPT);
        int left = 10;
        for (int i = 0; i < left; i++) {
            SocketChannel c = SocketChannel.open();
            c.configureBlocking(false);
            boolean done = c.connect(to);
            c.register(selector, done ? SelectionKey.OP_WRITE | SelectionKey.OP_READ : SelectionKey.OP_CONNECT, new ByteBuffer[] {ByteBuffer.wrap(text), ByteBuffer.allocate(text.length)});
        }
        while (left > 0) {
            if (selector.select(20000) == 0) throw new Exception("stalled");
            for (Iterator<SelectionKey> it = selector.selectedKeys().iterator(); it.hasNext();) {
                SelectionKey k = it.next();
                it.remove();
                if (!k.isValid()) continue;
                if (k.isAcceptable()) {
                    SocketChannel a;
                    while ((a = server.accept()) != null) {
                        a.configureBlocking(false);
                        a.register(selector, SelectionKey.OP_READ, ByteBuffer.allocate(16384));
                    }
                } else if (k.attachment() instanceof ByteBuffer b) {
                    SocketChannel c = (SocketChannel) k.channel();
                    if (k.isReadable() && c.read(b) < 0) { c.close(); continue; }
                    b.flip();
                    c.write(b);
                    b.compact();
                    k.interestOps((b.hasRemaining() ? SelectionKey.OP_READ : 0) | (b.position() > 0 ? SelectionKey.OP_WRITE : 0));
                } else {
                    SocketChannel c = (SocketChannel) k.channel();
                    ByteBuffer[] b = (ByteBuffer[]) k.attachment();
                    if (k.isConnectable() && c.finishConnect()) k.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
                    if (k.isWritable()) { c.write(b[0]); if (!b[0].hasRemaining()) k.interestOps(SelectionKey.OP_READ); }
                    if (k.isReadable()) {
                        if (c.read(b[1]) < 0) throw new Exception("end");
                        if (!b[1].hasRemaining()) {
                            if (!Arrays.equals(b[1].array(), text)) throw new Exception("lost bytes");
                            c.close();
                            left--;
                        }
                    }
                }
            }
        }
        server.close();
        selector.close();
        closing(args);
    }

    static void closing(String[] args) throws Exception {
        ServerSocket server = new ServerSocket(Integer.parseInt(args[1]), 5, InetAddress.getByName("127.0.0.1"));
        Socket s = new Socket(args[0], Integer.parseInt(args[1]));
        Socket a = server.accept();
        a.getOutputStream().write(1);
        if (s.getInputStream().read() != 1) throw new Exception("first byte");
        Thread t = new Thread(() -> { try { Thread.sleep(300); s.close(); } catch (Exception e) { } });
        t.start();
        try { s.getInputStream().read(); throw new Error("read went on"); } catch (SocketException e) { }
        if (a.getInputStream().read() != -1) throw new Exception("the other end saw no end");
    }
}
