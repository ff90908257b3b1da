// SPDX-License-Identifier: Apache-2.0
import java.net.InetSocketAddress;
import org.eclipse.jetty.server.*;
import org.eclipse.jetty.server.handler.*;

public class JettyServe {
    public static void main(String[] args) throws Exception {
        Server server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
        ResourceHandler files = new ResourceHandler();
        files.setResourceBase(args[1]);
        server.setHandler(files);
        server.start();
        server.join();
    }
}
