// SPDX-License-Identifier: Apache-2.0

import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.file.*;
import java.util.concurrent.Executors;

public class Serve {
  public static void main(String[] a) throws Exception {
    HttpServer s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(a[0])), 50);
    s.setExecutor(Executors.newFixedThreadPool(4));
    s.createContext("/", q -> {
      byte[] b = Files.readAllBytes(Paths.get("." + q.getRequestURI().getPath()));
      q.sendResponseHeaders(200, b.length);
      q.getResponseBody().write(b);
      q.close();
    });
    s.start();
  }
}
