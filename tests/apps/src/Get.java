// SPDX-License-Identifier: Apache-2.0

import java.io.InputStream;
import java.net.*;
import java.net.http.*;
import java.util.Arrays;

/** The same page by HttpClient (NIO) and by HttpURLConnection (blocking sockets). */
public class Get {
  public static void main(String[] a) throws Exception {
    HttpRequest q = HttpRequest.newBuilder(URI.create(a[0])).version(HttpClient.Version.HTTP_1_1).build();
    byte[] b = HttpClient.newHttpClient().send(q, HttpResponse.BodyHandlers.ofByteArray()).body();
    try (InputStream in = new URL(a[0]).openStream()) {
      if (!Arrays.equals(b, in.readAllBytes())) throw new Exception("they differ");
    }
    System.out.write(b);
    System.out.flush();
  }
}
