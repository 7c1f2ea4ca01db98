// Every change once, over cuts and restarts, with coder/websocket.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/coder/websocket"
)

type message struct {
	Type, Head, Channel, Op, Key, Position, Reason, Code, Message string
	Seq                                                           int64
	HeartbeatSeconds                                              int
	RetryAfterMs                                                  int
	Retryable                                                     bool
	Data                                                          json.RawMessage
}

var since string // the last position that was handled: the place to come back to

// follow reads one connection until it ends. It returns how long to stay away at least, and
// whether it got somewhere.
func follow(base, key string) (wait time.Duration, worked bool) {
	query := url.Values{"channels": {"market-data"}, "heartbeat": {"2"}}
	if since != "" {
		query.Set("since", since)
	}
	dialing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	socket, answer, err := websocket.Dial(dialing, base+"/ws/telemetry?"+query.Encode(),
		&websocket.DialOptions{HTTPHeader: http.Header{"X-Api-Key": {key}}})
	if err != nil {
		if answer != nil && answer.StatusCode < 500 && answer.StatusCode != 429 {
			body, _ := io.ReadAll(answer.Body)
			log.Fatalf("%d %s", answer.StatusCode, body) // coming back unchanged is of no use
		}
		return time.Second, false
	}
	defer socket.CloseNow()
	socket.SetReadLimit(1 << 20) // the default is 32 KiB, and an event may have a little more

	var epoch string
	var inSnapshot bool
	beat := 2 * time.Second
	for {
		// Three heartbeats without a message: the line is dead, though no error shows.
		reading, cancel := context.WithTimeout(context.Background(), 3*beat)
		_, data, err := socket.Read(reading)
		cancel()
		if err != nil {
			return wait, worked // whatever the close code: the notice has said what there is to say
		}
		m := message{}
		if err := json.Unmarshal(data, &m); err != nil {
			return time.Second, worked
		}
		switch m.Type {
		case "welcome":
			epoch, _, _ = strings.Cut(m.Head, ":")
			beat = time.Duration(m.HeartbeatSeconds) * time.Second
		case "snapshot":
			inSnapshot, since = true, "" // it was earned with the rows that are to be forgotten now
			fmt.Println("snapshot", m.Reason)
		case "resume":
			inSnapshot = false
		case "event":
			fmt.Println(m.Op, m.Channel, m.Key)
			if !inSnapshot {
				since = fmt.Sprintf("%s:%d", epoch, m.Seq)
			}
		case "live":
			inSnapshot, since, worked = false, m.Position, true
			fmt.Println("live at", since)
		case "heartbeat":
			if !inSnapshot {
				since = m.Position
			}
		case "notice":
			wait = time.Duration(m.RetryAfterMs) * time.Millisecond
			if !m.Retryable {
				log.Fatalf("%s: %s", m.Code, m.Message)
			}
		}
	}
}

func main() {
	base := os.Getenv("TELECAST_URL")
	if base == "" {
		base = "http://127.0.0.1:8080"
	}
	base = "ws" + strings.TrimPrefix(base, "http")
	pause := 500 * time.Millisecond
	for {
		wait, worked := follow(base, os.Getenv("TELECAST_KEY"))
		if worked {
			pause = 500 * time.Millisecond
		}
		fmt.Println("disconnected")
		time.Sleep(time.Duration(float64(max(wait, pause)) * (1 + rand.Float64()/2)))
		pause = min(2*pause, 20*time.Second)
	}
}
