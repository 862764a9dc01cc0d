import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;

/**
 * What a Java program does with the JDK's own client, as it comes: on http:// it asks for HTTP/2.
 * Arguments: the URL of the indexes, a token. Prints a line for each answer: what, status, body.
 */
class Client {
    static String token;
    static HttpClient client = HttpClient.newHttpClient();

    static void send(String what, String url, BodyPublisher body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url))
            .header("Authorization", "Bearer " + token)
            .header("Content-Type", "application/json")
            .header("Prefer", "wait=30")
            .POST(body)
            .build();
        HttpResponse<String> answer = client.send(request, BodyHandlers.ofString());
        System.out.println(what + " " + answer.statusCode() + " " + answer.body());
    }

    static BodyPublisher text(String text) {
        return BodyPublishers.ofString(text);
    }

    static BodyPublisher stream(String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        return BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(bytes));
    }

    static String lines(int start, int count) {
        StringBuilder lines = new StringBuilder();
        for (int n = start; n < start + count; n++) {
            lines.append("{\"id\":\"").append(n).append("\",\"values\":[1,").append(n)
                .append("],\"metadata\":{\"text\":\"").append("x".repeat(300)).append("\"}}\n");
        }
        return lines.toString();
    }

    public static void main(String[] arguments) throws Exception {
        token = arguments[1];
        String index = arguments[0] + "/java";
        send("create", arguments[0],
            text("{\"name\":\"java\",\"config\":{\"dimensions\":2,\"metric\":\"cosine\"}}"));
        for (int turn = 0; turn < 3; turn++) {
            send("upsert", index + "/upsert", text(lines(turn, 1)));
            send("query", index + "/query", text("{\"vector\":[1,0],\"topK\":1}"));
            client = HttpClient.newHttpClient(); // a connection of its own
        }
        send("large", index + "/upsert", text(lines(100, 4000)));
        send("chunked", index + "/upsert", stream(lines(5000, 10)));
        send("chunked", index + "/upsert", stream(lines(6000, 4000)));
        send("query", index + "/query", text("{\"vector\":[1,0],\"topK\":1}"));
        send("get", index + "/get_by_ids", text("{\"ids\":[\"9999\",\"4099\",\"5009\"]}"));
    }
}
