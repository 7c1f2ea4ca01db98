// Every change once, over cuts and restarts, with Java 17 and nothing else: java Follow.java
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Server-Sent Events by java.net.http. Its WebSocket does as well, but shows neither pings nor the
 * body of a refused handshake; an event stream needs no more than lines.
 */
public class Follow {
    static final String BASE = System.getenv().getOrDefault("TELECAST_URL", "http://127.0.0.1:8080");
    static final Duration DEAD = Duration.ofSeconds(6); // three heartbeats without a line
    static final Pattern WAIT = Pattern.compile("\"retryAfterMs\":(\\d+)");

    static String since = ""; // the last id: is the place to come back to
    static long pause = 500;

    /** One connection, until it ends. Returns the ms to stay away at least. */
    static long followOnce(HttpClient http) throws IOException, InterruptedException {
        var request = HttpRequest.newBuilder(URI.create(BASE + "/sse/telemetry?channels=market-data&heartbeat=2"))
            .header("X-API-Key", System.getenv("TELECAST_KEY"))
            .header("Accept", "text/event-stream");
        if (!since.isEmpty()) request.header("Last-Event-ID", since);
        HttpResponse<Stream<String>> response =
            http.send(request.build(), HttpResponse.BodyHandlers.ofLines());
        int status = response.statusCode();
        if (status != 200) {
            if (status < 500 && status != 429) {
                response.body().forEach(System.err::println);
                System.exit(1); // coming back unchanged would give the same answer
            }
            return 1000;
        }
        long wait = 0;
        var timers = Executors.newSingleThreadScheduledExecutor();
        try (Stream<String> body = response.body()) {
            var lines = body.iterator();
            while (true) {
                ScheduledFuture<?> alarm =
                    timers.schedule(body::close, DEAD.toMillis(), TimeUnit.MILLISECONDS);
                if (!lines.hasNext()) return wait;
                String line = lines.next();
                alarm.cancel(false);
                if (line.startsWith("id:")) { // empty with a snapshot: its rows replace all others
                    since = line.substring(3).strip();
                    if (!since.isEmpty()) pause = 500;
                } else if (line.startsWith("data: ")) {
                    String json = line.substring(6); // give it to the JSON library of your choice
                    System.out.println(json);
                    if (json.startsWith("{\"type\":\"notice\"")) {
                        Matcher told = WAIT.matcher(json);
                        if (told.find()) wait = Long.parseLong(told.group(1));
                        if (json.contains("\"retryable\":false")) {
                            System.err.println(json);
                            System.exit(1);
                        }
                    }
                }
            }
        } finally {
            timers.shutdownNow();
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        HttpClient http = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .connectTimeout(Duration.ofSeconds(10))
            .build();
        while (true) {
            long wait = 0;
            try {
                wait = followOnce(http);
            } catch (IOException | java.io.UncheckedIOException lost) {
                // not there, or gone without a word
            }
            System.out.println("disconnected");
            long least = Math.max(wait, pause);
            Thread.sleep(least + ThreadLocalRandom.current().nextLong(least / 2 + 1));
            pause = Math.min(2 * pause, 20_000);
        }
    }
}
