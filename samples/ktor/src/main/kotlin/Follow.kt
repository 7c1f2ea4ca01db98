// A table that is always current, with the Ktor client (engine CIO): for a desktop on coroutines.
// mvn package, then java -cp 'target/classes:target/dependency/*' FollowKt
import io.ktor.client.HttpClient
import io.ktor.client.engine.cio.CIO
import io.ktor.client.plugins.HttpResponseValidator
import io.ktor.client.plugins.websocket.DefaultClientWebSocketSession
import io.ktor.client.plugins.websocket.WebSockets
import io.ktor.client.plugins.websocket.webSocket
import io.ktor.client.request.header
import io.ktor.client.request.parameter
import io.ktor.websocket.Frame
import io.ktor.websocket.readText
import java.io.IOException
import kotlin.random.Random
import kotlin.system.exitProcess
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.delay
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeoutOrNull
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.long
import kotlinx.serialization.json.longOrNull

val base = (System.getenv("TELECAST_URL") ?: "http://127.0.0.1:8080").replaceFirst("http", "ws")
val key: String = System.getenv("TELECAST_KEY")
val rows = HashMap<Pair<String, String>, JsonObject>() // (channel, key) to the row
var since = "" // the last position that was handled; it belongs to `rows`: keep both, or neither
var pause = 500L

class Refused(val status: Int) : Exception()

fun stop(why: String): Nothing {
    System.err.println(why) // coming back unchanged would give the same end
    exitProcess(1)
}

/** One connection, until it ends. Returns the ms to stay away at least. */
suspend fun followOnce(http: HttpClient): Long {
    var wait = 0L
    try {
        http.webSocket("$base/ws/telemetry", {
            header("X-API-Key", key)
            parameter("channels", "market-data")
            parameter("heartbeat", 2)
            if (since.isNotEmpty()) parameter("since", since)
        }) { wait = read() }
    } catch (refused: Refused) {
        if (refused.status < 500 && refused.status != 429) stop("refused with ${refused.status}")
        wait = 1000
    } catch (cancelled: CancellationException) {
        currentCoroutineContext().ensureActive() // ours goes on; Ktor's own is a lost connection
    } catch (lost: Exception) {
        wait = 1000 // nobody there, or cut: come back
    }
    return wait
}

suspend fun DefaultClientWebSocketSession.read(): Long {
    var epoch = ""
    var inSnapshot = false
    var wait = 0L
    var beat = 2L
    while (true) {
        // Three heartbeats without a message: the line is dead, though no error shows.
        // Not `return`: at the end of the block Ktor waits for a close frame, which does not come.
        val next = withTimeoutOrNull(3000 * beat) { incoming.receiveCatching() }
            ?: throw IOException("silent")
        val text = (next.getOrNull() as? Frame.Text ?: return wait).readText()
        val message = Json.parseToJsonElement(text).jsonObject
        fun said(name: String) = message.getValue(name).jsonPrimitive
        when (said("type").content) {
            "welcome" -> {
                epoch = said("head").content.substringBefore(':')
                beat = said("heartbeatSeconds").long
            }
            "snapshot" -> { // what does not follow does not exist
                inSnapshot = true
                since = ""
                val names = message.getValue("channels").jsonArray.map { it.jsonPrimitive.content }
                rows.keys.removeIf { it.first in names }
                println("snapshot ${said("reason").content}")
            }
            "resume" -> inSnapshot = false
            "event" -> {
                val where = said("channel").content to said("key").content
                val op = said("op").content
                if (op == "upsert") rows[where] = message.getValue("data").jsonObject
                else rows.remove(where)
                if (!inSnapshot) since = "$epoch:${said("seq").long}"
                println("$op ${where.first} ${where.second}")
            }
            "live" -> {
                inSnapshot = false
                since = said("position").content
                pause = 500
                println("live at $since with ${rows.size} rows")
            }
            "heartbeat" -> if (!inSnapshot) since = said("position").content
            "notice" -> {
                wait = said("retryAfterMs").longOrNull ?: 0
                if (!said("retryable").boolean) stop(text)
            }
        }
    }
}

fun main() = runBlocking {
    val http = HttpClient(CIO) {
        install(WebSockets)
        HttpResponseValidator {
            // Not `expectSuccess`, which waits for the end of a body that a refused upgrade has not.
            validateResponse { if (it.status.value >= 400) throw Refused(it.status.value) }
        }
    }
    while (true) {
        val wait = followOnce(http)
        println("disconnected") // dim the rows until the next `live`
        delay((maxOf(wait, pause) * Random.nextDouble(1.0, 1.5)).toLong())
        pause = minOf(2 * pause, 20_000)
    }
}
