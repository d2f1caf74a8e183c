//! Requests as the input describes them, sensible or not.

use moat_sdk::http::Request;
use serde_json::{Value, json};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};

fn headers(input: &Value) -> Vec<(String, Vec<u8>)> {
    let pairs = input["headers"].as_array().into_iter().flatten();
    pairs
        .map(|pair| {
            let text = |at: usize| pair[at].as_str().unwrap_or("").to_owned();
            (text(0), text(1).into_bytes())
        })
        .collect()
}

/// By the SDK, as a skill would.
pub fn fetch(input: &Value) -> Value {
    let url = input["url"].as_str().unwrap_or("");
    let mut request = Request::new(input["method"].as_str().unwrap_or("GET"), url);
    for (name, value) in headers(input) {
        request = request.header(&name, value);
    }
    if let Some(body) = input["body"].as_str() {
        request = request.body(body);
    }
    let answered = request.send().and_then(|response| {
        let (status, headers) = (response.status, response.headers.clone());
        Ok((status, headers, response.text()?))
    });
    match answered {
        Ok((status, headers, body)) => {
            let headers = headers
                .into_iter()
                .map(|(name, value)| json!([name, String::from_utf8_lossy(&value)]));
            json!({"status": status, "headers": Value::from_iter(headers), "body": body})
        }
        Err(error) => json!({"error": format!("{error:?}")}),
    }
}

/// By the bindings, with nothing between the input and the host.
pub fn ask(input: &Value) -> Value {
    match asked(input) {
        Ok(response) => json!({"status": response.status()}),
        Err(refused) => refused,
    }
}

/// The same `count` times, holding every answer, unread.
pub fn hold(input: &Value) -> Value {
    let count = input["count"].as_u64().unwrap_or(0);
    let all: Vec<_> = (0..count).map(|_| asked(input)).collect();
    let held = all.iter().filter(|one| one.is_ok()).count();
    json!({"held": held, "last": all.last().and_then(|one| one.as_ref().err())})
}

/// The same `count` times, letting every answer go, unread.
pub fn drop_all(input: &Value) -> Value {
    let count = input["count"].as_u64().unwrap_or(0);
    let answered = (0..count).filter(|_| asked(input).is_ok()).count();
    json!({"answered": answered})
}

/// Sends two before it waits for either, and reads both to their ends, a piece of each at a time.
pub fn pair(input: &Value) -> Value {
    let begin = |part: &str| {
        let request = request(&input[part])?;
        handle(request, None).map_err(code)
    };
    let (one, two) = (begin("one"), begin("two"));
    if let Some(time) = input["sleep-ms"].as_u64() {
        std::thread::sleep(std::time::Duration::from_millis(time));
    }
    if input["chat"] == true {
        crate::chatted(&json!({"alias": "small"}));
    }
    let text = |answer: Result<wasip2::http::types::FutureIncomingResponse, Value>| {
        let response = answer.and_then(wait)?;
        let body = response.consume().map_err(|()| json!("consumed"))?;
        let stream = body.stream().map_err(|()| json!("no stream"))?;
        Ok::<_, Value>((stream, body, response))
    };
    let (one, two) = (text(one), text(two));
    let mut read = [0u64; 2];
    let mut open = [one.is_ok(), two.is_ok()];
    while open[0] || open[1] {
        for (at, body) in [&one, &two].into_iter().enumerate() {
            let Ok((stream, ..)) = body else { continue };
            match stream.blocking_read(1 << 16) {
                Ok(bytes) => read[at] += bytes.len() as u64,
                Err(_) => open[at] = false,
            }
        }
    }
    json!(read)
}

/// Sends one and leaves its answer unread, and another that it does not wait for; both are let go by nobody.
pub fn abandon(input: &Value) -> Value {
    let send = || request(input).and_then(|request| handle(request, None).map_err(code));
    let first = send().inspect(|first| first.subscribe().block());
    let second = send();
    let sent = first.is_ok() && second.is_ok();
    std::mem::forget((first, second));
    json!({"sent": sent})
}

/// Changes headers after they were given to a request.
pub fn mutate(input: &Value) -> Value {
    let request = match request(input) {
        Ok(request) => request,
        Err(refused) => return refused,
    };
    let held = request.headers();
    let appended = format!("{:?}", held.append("x-late", b"1"));
    let copy = held.clone();
    let copied = format!("{:?}", copy.append("x-late", b"1"));
    drop((held, copy));
    let answer = handle(request, None).map_err(code).and_then(wait);
    json!({"appended": appended, "copied": copied, "answered": answer.is_ok()})
}

/// Appends so many fields to one collection.
pub fn fields(input: &Value) -> Value {
    let fields = Fields::new();
    let count = input["count"].as_u64().unwrap_or(0);
    let value = vec![b'x'; input["bytes"].as_u64().unwrap_or(0) as usize];
    let taken = (0..count).take_while(|n| fields.append(&format!("x-{n}"), &value).is_ok());
    json!({"taken": taken.count()})
}

/// Begins bodies, fills them as far as they go, and never sends them.
pub fn unsent(input: &Value) -> Value {
    let count = input["count"].as_u64().unwrap_or(0);
    let all: Vec<_> = (0..count)
        .map_while(|_| {
            let request = request(input).ok()?;
            let body = request.body().ok()?;
            let stream = body.write().ok()?;
            while let Ok(room) = stream.check_write() {
                if room == 0 || stream.write(&vec![b'x'; room as usize]).is_err() {
                    break;
                }
            }
            Some((stream, body, request))
        })
        .collect();
    json!({"begun": all.len()})
}

fn request(input: &Value) -> Result<OutgoingRequest, Value> {
    let fields = Fields::from_list(&headers(input));
    let fields =
        fields.map_err(|error| json!({"refused": "headers", "error": format!("{error:?}")}))?;
    let request = OutgoingRequest::new(fields);
    let scheme = match input["scheme"].as_str() {
        None => Some(Scheme::Https),
        Some("http") => Some(Scheme::Http),
        Some("") => None,
        Some(other) => Some(Scheme::Other(other.into())),
    };
    let method = match input["method"].as_str().unwrap_or("GET") {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "CONNECT" => Method::Connect,
        "TRACE" => Method::Trace,
        other => Method::Other(other.into()),
    };
    let long = input["path-bytes"]
        .as_u64()
        .map(|bytes| format!("/{}", "p".repeat(bytes as usize)));
    let path = long.as_deref().or(input["path"].as_str());
    let set = |what: &str, done: Result<(), ()>| done.map_err(|()| json!({"refused": what}));
    set("scheme", request.set_scheme(scheme.as_ref()))?;
    set("method", request.set_method(&method))?;
    set(
        "authority",
        request.set_authority(input["authority"].as_str()),
    )?;
    set("path", request.set_path_with_query(path))?;
    Ok(request)
}

fn asked(input: &Value) -> Result<IncomingResponse, Value> {
    let request = request(input)?;
    let body = match input["body-bytes"].as_u64() {
        Some(_) => Some(request.body().map_err(|()| json!({"refused": "body"}))?),
        None => None,
    };
    let options = input["timeout-ns"].as_u64().map(|ns| {
        let options = RequestOptions::new();
        let _ = options.set_connect_timeout(Some(ns));
        let _ = options.set_first_byte_timeout(Some(ns));
        let _ = options.set_between_bytes_timeout(Some(ns));
        options
    });
    let answer = handle(request, options).map_err(code)?;
    if let Some(body) = body {
        write(body, input)?;
    }
    wait(answer)
}

fn write(body: OutgoingBody, input: &Value) -> Result<(), Value> {
    let stream = body.write().map_err(|()| json!({"refused": "write"}))?;
    let mut left = input["body-bytes"].as_u64().unwrap_or(0);
    while left > 0 {
        let piece = left.min(4096);
        if stream
            .blocking_write_and_flush(&vec![b'x'; piece as usize])
            .is_err()
        {
            break;
        }
        left -= piece;
    }
    drop(stream);
    if input["finish"] == false {
        // Its end is never told.
        std::mem::forget(body);
        return Ok(());
    }
    if input["finish"] == "drop" {
        return Ok(());
    }
    let trailers = match input["trailer"].as_str() {
        Some(name) => Some(
            Fields::from_list(&[(name.to_owned(), b"1".to_vec())])
                .map_err(|error| json!({"refused": "trailer", "error": format!("{error:?}")}))?,
        ),
        None => None,
    };
    // A body that broke is told by the answer.
    let _ = OutgoingBody::finish(body, trailers);
    Ok(())
}

fn wait(answer: wasip2::http::types::FutureIncomingResponse) -> Result<IncomingResponse, Value> {
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(error))) => Err(code(error)),
        other => Err(json!({"error": format!("{other:?}")})),
    }
}

fn code(error: ErrorCode) -> Value {
    json!({"error": format!("{error:?}")})
}
