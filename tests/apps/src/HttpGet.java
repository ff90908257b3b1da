// SPDX-License-Identifier: Apache-2.0
import java.net.URI;
import java.net.http.*;
import java.util.concurrent.*;
import java.util.*;

public class HttpGet {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        HttpRequest request = HttpRequest.newBuilder(URI.create(args[0])).build();
        List<CompletableFuture<HttpResponse<byte[]>>> all = new ArrayList<>();
        for (int i = 0; i < 8; i++) all.add(client.sendAsync(request, HttpResponse.BodyHandlers.ofByteArray()));
        byte[] body = null;
        for (var f : all) {
            if (f.get().statusCode() != 200) System.exit(1);
            if (body != null && !Arrays.equals(body, f.get().body())) System.exit(1);
            body = f.get().body();
        }
        System.out.write(body);
        System.out.flush();
        System.exit(0);
    }
}
