// SPDX-License-Identifier: Apache-2.0

import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.KeyStore;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

/**
 * Peer server PORT P12 CA ID: serves the files of its directory, and POST bodies back, over mutual TLS.
 * Peer client PORT P12 CA ID METHOD PATH: prints the answer's body; standard input is the request's body.
 * ID is the SPIFFE ID that the other side must have. PEER_TLS=1.2 offers no more than that. The P12 has no password but "x".
 */
public class Peer {
  static SSLContext context(String p12, String ca) throws Exception {
    KeyStore own = KeyStore.getInstance("PKCS12"), roots = KeyStore.getInstance("PKCS12");
    try (InputStream in = new FileInputStream(p12)) {
      own.load(in, "x".toCharArray());
    }
    roots.load(null, null);
    try (InputStream in = new FileInputStream(ca)) {
      for (Certificate c : CertificateFactory.getInstance("X.509").generateCertificates(in))
        roots.setCertificateEntry("root" + roots.size(), c);
    }
    KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
    keys.init(own, "x".toCharArray());
    TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(roots);
    SSLContext c = SSLContext.getInstance("TLS");
    c.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    return c;
  }

  static String[] versions() {
    return "1.2".equals(System.getenv("PEER_TLS")) ? new String[] {"TLSv1.2"} : new String[] {"TLSv1.3", "TLSv1.2"};
  }

  static void pin(SSLSocket s, String id) throws Exception {
    X509Certificate leaf = (X509Certificate) s.getSession().getPeerCertificates()[0];
    for (List<?> name : leaf.getSubjectAlternativeNames())
      if ((Integer) name.get(0) == 6 && id.equals(name.get(1))) return;
    throw new SSLException("the peer is not " + id);
  }

  static String line(InputStream in) throws IOException {
    StringBuilder b = new StringBuilder();
    for (int c; (c = in.read()) >= 0 && c != '\n'; )
      if (c != '\r') b.append((char) c);
    return b.toString();
  }

  /** Reads a head; returns its first line, and the content length in length[0] (-1: until the end). */
  static String head(InputStream in, int[] length) throws IOException {
    String first = line(in);
    length[0] = -1;
    for (String l; !(l = line(in)).isEmpty(); )
      if (l.toLowerCase().startsWith("content-length:")) length[0] = Integer.parseInt(l.substring(15).trim());
    return first;
  }

  static void answer(SSLSocket s, String id) {
    try (s) {
      s.startHandshake();
      pin(s, id);
      InputStream in = new BufferedInputStream(s.getInputStream());
      int[] n = new int[1];
      String[] q = head(in, n).split(" ");
      byte[] body = q[0].equals("POST") ? in.readNBytes(n[0]) : Files.readAllBytes(Paths.get(Paths.get(q[1]).getFileName().toString()));
      OutputStream out = s.getOutputStream();
      out.write(("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + body.length + "\r\n\r\n").getBytes(StandardCharsets.US_ASCII));
      out.write(body);
      out.flush();
    } catch (Exception e) {
      System.err.println(e);
    }
  }

  static void serve(int port, SSLContext c, String id) throws Exception {
    SSLServerSocket l = (SSLServerSocket) c.getServerSocketFactory().createServerSocket(port, 50, java.net.InetAddress.getByName("127.0.0.1"));
    l.setNeedClientAuth(true);
    l.setEnabledProtocols(versions());
    while (true) {
      SSLSocket s = (SSLSocket) l.accept();
      new Thread(() -> answer(s, id)).start();
    }
  }

  static void ask(int port, SSLContext c, String id, String method, String path) throws Exception {
    try (SSLSocket s = (SSLSocket) c.getSocketFactory().createSocket("127.0.0.1", port)) {
      s.setEnabledProtocols(versions());
      s.startHandshake();
      pin(s, id);
      byte[] body = method.equals("POST") ? System.in.readAllBytes() : new byte[0];
      OutputStream out = s.getOutputStream();
      out.write((method + " " + path + " HTTP/1.0\r\nContent-Length: " + body.length + "\r\n\r\n").getBytes(StandardCharsets.US_ASCII));
      out.write(body);
      out.flush();
      InputStream in = new BufferedInputStream(s.getInputStream());
      int[] n = new int[1];
      String status = head(in, n);
      System.out.write(n[0] < 0 ? in.readAllBytes() : in.readNBytes(n[0]));
      System.out.flush();
      if (!status.contains(" 200 ")) throw new IOException(status);
    }
  }

  public static void main(String[] a) throws Exception {
    SSLContext c = context(a[2], a[3]);
    if (a[0].equals("server")) serve(Integer.parseInt(a[1]), c, a[4]);
    else ask(Integer.parseInt(a[1]), c, a[4], a[5], a[6]);
  }
}
