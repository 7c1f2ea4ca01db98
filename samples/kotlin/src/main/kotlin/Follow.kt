// A table that is always current, over a WebSocket of Java 17 (java.net.http): what a desktop does.
// mvn package, then java -cp 'target/classes:target/dependency/*' FollowKt
import com.fasterxml.jackson.databind.JsonNode
import com.fasterxml.jackson.databind.ObjectMapper
import java.net.URI
import java.net.http.HttpClient
import java.net.http.WebSocket
import java.net.http.WebSocketHandshakeException
import java.nio.ByteBuffer
import java.time.Duration
import java.util.concurrent.CompletableFuture
import java.util.concurrent.CompletionStage
import java.util.concurrent.ExecutionException
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import kotlin.random.Random
import kotlin.system.exitProcess

val base = (System.getenv("TELECAST_URL") ?: "http://127.0.0.1:8080").replaceFirst("http", "ws")
val key: String = System.getenv("TELECAST_KEY")
val rows = HashMap<Pair<String, String>, JsonNode>() // (channel, key) to the row
var since = "" // the last position that was handled; it belongs to `rows`: keep both, or neither
var pause = 500L

fun stop(why: String): Nothing {
    System.err.println(why) // coming back unchanged would give the same end
    exitProcess(1)
}

/** What the socket's thread hands to ours: a text, "" for a sign of life, null for the end. */
class Incoming : WebSocket.Listener {
    val queue = LinkedBlockingQueue<Result<String?>>()
    private val text = StringBuilder()

    override fun onText(socket: WebSocket, data: CharSequence, last: Boolean): CompletionStage<*>? {
        text.append(data)
        if (last) {
            queue.put(Result.success(text.toString()))
            text.clear()
        }
        socket.request(1)
        return null
    }

    override fun onPing(socket: WebSocket, message: ByteBuffer): CompletionStage<*>? {
        queue.put(Result.success("")) // it is answered by itself
        socket.request(1)
        return null
    }

    override fun onClose(socket: WebSocket, code: Int, reason: String): CompletionStage<*>? {
        queue.put(Result.success(null))
        return CompletableFuture.completedFuture(null)
    }

    override fun onError(socket: WebSocket, error: Throwable) {
        queue.put(Result.success(null))
    }
}

/** One connection, until it ends. Returns the ms to stay away at least. */
fun followOnce(http: HttpClient): Long {
    val query = "channels=market-data&heartbeat=2" + if (since.isEmpty()) "" else "&since=$since"
    val incoming = Incoming()
    val socket = try {
        http.newWebSocketBuilder()
            .header("X-API-Key", key)
            .connectTimeout(Duration.ofSeconds(10))
            .buildAsync(URI("$base/ws/telemetry?$query"), incoming)
            .get()
    } catch (failed: ExecutionException) {
        val status = (failed.cause as? WebSocketHandshakeException)?.response?.statusCode()
        if (status != null && status < 500 && status != 429) stop("refused with $status")
        return 1000
    }
    var epoch = ""
    var inSnapshot = false
    var wait = 0L
    var beat = 2L
    try {
        while (true) {
            // Three heartbeats without a frame: the line is dead, though no error shows.
            val next = incoming.queue.poll(3 * beat, TimeUnit.SECONDS) ?: return wait
            val text = next.getOrNull() ?: return wait
            if (text.isEmpty()) continue
            val message = json.readTree(text)
            when (message["type"].asText()) {
                "welcome" -> {
                    epoch = message["head"].asText().substringBefore(':')
                    beat = message["heartbeatSeconds"].asLong()
                }
                "snapshot" -> { // what does not follow does not exist
                    inSnapshot = true
                    since = ""
                    val names = message["channels"].map { it.asText() }
                    rows.keys.removeIf { it.first in names }
                    println("snapshot ${message["reason"].asText()}")
                }
                "resume" -> inSnapshot = false
                "event" -> {
                    val where = message["channel"].asText() to message["key"].asText()
                    if (message["op"].asText() == "upsert") rows[where] = message["data"]
                    else rows.remove(where)
                    if (!inSnapshot) since = "$epoch:${message["seq"].asLong()}"
                    println("${message["op"].asText()} ${where.first} ${where.second}")
                }
                "live" -> {
                    inSnapshot = false
                    since = message["position"].asText()
                    pause = 500
                    println("live at $since with ${rows.size} rows")
                }
                "heartbeat" -> if (!inSnapshot) since = message["position"].asText()
                "notice" -> {
                    wait = message["retryAfterMs"].asLong(0)
                    if (!message["retryable"].asBoolean()) stop(text)
                }
            }
        }
    } finally {
        socket.abort()
    }
}

val json = ObjectMapper()

fun main() {
    val http = HttpClient.newHttpClient()
    while (true) {
        val wait = followOnce(http)
        println("disconnected") // dim the rows until the next `live`
        Thread.sleep((maxOf(wait, pause) * Random.nextDouble(1.0, 1.5)).toLong())
        pause = minOf(2 * pause, 20_000)
    }
}
