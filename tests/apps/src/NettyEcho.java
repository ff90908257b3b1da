// SPDX-License-Identifier: Apache-2.0
// NettyEcho HOST PORT TEXT
import io.netty.bootstrap.*;
import io.netty.buffer.*;
import io.netty.channel.*;
import io.netty.channel.nio.*;
import io.netty.channel.socket.nio.*;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.*;

public class NettyEcho {
    public static void main(String[] args) throws Exception {
        String text = args[2].repeat(5000);
        EventLoopGroup group = new NioEventLoopGroup(2);
        new ServerBootstrap().group(group).channel(NioServerSocketChannel.class).childHandler(new ChannelInitializer<Channel>() {
            protected void initChannel(Channel c) {
                c.pipeline().addLast(new ChannelInboundHandlerAdapter() {
                    public void channelRead(ChannelHandlerContext x, Object m) { x.writeAndFlush(m); }
                });
            }
        }).bind("127.0.0.1", Integer.parseInt(args[1])).sync();
        CountDownLatch left = new CountDownLatch(10);
        for (int i = 0; i < 10; i++) {
            new Bootstrap().group(group).channel(NioSocketChannel.class).handler(new ChannelInitializer<Channel>() {
                protected void initChannel(Channel c) {
                    c.pipeline().addLast(new ChannelInboundHandlerAdapter() {
                        ByteBuf got = Unpooled.buffer();
                        public void channelActive(ChannelHandlerContext x) { x.writeAndFlush(Unpooled.copiedBuffer(text, StandardCharsets.UTF_8)); }
                        public void channelRead(ChannelHandlerContext x, Object m) {
                            got.writeBytes((ByteBuf) m);
                            ((ByteBuf) m).release();
                            if (got.readableBytes() == text.length()) {
                                if (!got.toString(StandardCharsets.UTF_8).equals(text)) System.exit(1);
                                x.close();
                                left.countDown();
                            }
                        }
                    });
                }
            }).connect(args[0], Integer.parseInt(args[1]));
        }
        System.exit(left.await(30, TimeUnit.SECONDS) ? 0 : 1);
    }
}
