import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.CompletableFuture;

/** Posts numbers in turn and at once, as Java's own client does by default: with Upgrade: h2c. */
class Poster {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        int times = Integer.parseInt(arguments[1]);
        for (int number = 0; number < times; number++) {
            System.out.println(client.send(request(arguments[0], number), text()).statusCode());
        }
        CompletableFuture<?>[] all = new CompletableFuture<?>[times];
        for (int number = 0; number < times; number++) {
            all[number] = client.sendAsync(request(arguments[0], times + number), text())
                .thenAccept(answer -> System.out.println(answer.statusCode()));
        }
        CompletableFuture.allOf(all).join();
    }

    static HttpRequest request(String url, int number) {
        return HttpRequest.newBuilder(URI.create(url))
            .POST(HttpRequest.BodyPublishers.ofString("{\"number\": " + number + "}"))
            .build();
    }

    static HttpResponse.BodyHandler<String> text() {
        return HttpResponse.BodyHandlers.ofString();
    }
}
