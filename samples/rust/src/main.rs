// Every change once, over cuts and restarts, with tokio-tungstenite.
use std::{env, process::exit, time::Duration};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{connect_async, tungstenite};
use tungstenite::{client::IntoClientRequest, Error, Message};

fn stop(why: &str) -> ! {
    eprintln!("{why}"); // coming back unchanged would give the same end
    exit(1)
}

/// One connection, until it ends. `since` is the last position that was handled. Returns the ms to
/// stay away at least, and whether it got somewhere.
async fn follow(base: &str, key: &str, since: &mut String) -> (u64, bool) {
    let mut address = format!("{base}/ws/telemetry?channels=market-data&heartbeat=2");
    if !since.is_empty() {
        address += &format!("&since={since}");
    }
    let mut request = address.into_client_request().expect("an address");
    request.headers_mut().insert("X-API-Key", key.parse().expect("a key"));
    let mut socket = match timeout(Duration::from_secs(10), connect_async(request)).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(Error::Http(answer))) if answer.status().is_client_error() && answer.status() != 429 => {
            let body = answer.body().as_deref().unwrap_or_default();
            stop(&format!("{} {}", answer.status(), String::from_utf8_lossy(body)))
        }
        _ => return (1000, false),
    };
    let (mut epoch, mut in_snapshot, mut wait, mut worked) = (String::new(), false, 0, false);
    let mut beat = 2;
    // Three heartbeats without a frame: the line is dead, though no error shows.
    while let Ok(Some(Ok(frame))) = timeout(Duration::from_secs(3 * beat), socket.next()).await {
        let Message::Text(text) = frame else { continue }; // a ping is answered by itself
        let Ok(message) = serde_json::from_str::<Value>(&text) else { break };
        let said = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        match message["type"].as_str().unwrap_or_default() {
            "welcome" => {
                epoch = said("head").split(':').next().unwrap_or_default().to_owned();
                beat = message["heartbeatSeconds"].as_u64().unwrap_or(beat);
            }
            "snapshot" => {
                in_snapshot = true;
                since.clear(); // it was earned with the rows that are to be forgotten now
                println!("snapshot {}", said("reason"));
            }
            "resume" => in_snapshot = false,
            "event" => {
                println!("{} {} {}", said("op"), said("channel"), said("key"));
                if !in_snapshot {
                    *since = format!("{epoch}:{}", message["seq"]);
                }
            }
            "live" => {
                (in_snapshot, worked, *since) = (false, true, said("position"));
                println!("live at {since}");
            }
            "heartbeat" if !in_snapshot => *since = said("position"),
            "notice" => {
                wait = message["retryAfterMs"].as_u64().unwrap_or(0);
                if message["retryable"] == false {
                    stop(&text);
                }
            }
            _ => {}
        }
    }
    (wait, worked) // whatever the close code: the notice has said what there is to say
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = env::var("TELECAST_URL").unwrap_or("http://127.0.0.1:8080".into());
    let base = url.replacen("http", "ws", 1);
    let key = env::var("TELECAST_KEY").expect("TELECAST_KEY");
    let (mut since, mut pause) = (String::new(), 500);
    loop {
        let (wait, worked) = follow(&base, &key, &mut since).await;
        if worked {
            pause = 500;
        }
        println!("disconnected");
        sleep(Duration::from_millis(wait.max(pause)).mul_f64(1.0 + fastrand::f64() / 2.0)).await;
        pause = (2 * pause).min(20_000);
    }
}
