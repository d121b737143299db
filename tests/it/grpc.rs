//! gRPC from end to end: a real client, the gateway, a real tool, all over HTTP/2.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::wire::wrap_with;
use crate::world::{World, until};

/// The Python with `grpcio`.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/.cache/venv/bin/python");

const TOOL: &str = r#"
import grpc, sys
from concurrent import futures

def say(request, context):
    seen = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-sum", str(len(request))), ("x-named", seen.get("x-countersign-task", "")),
                                   ("x-countersign-task", "forged"), ("x-bearer", seen.get("authorization", "none"))))
    return b"you said " + request

def chat(requests, context):
    for request in requests:
        yield b"<" + request

def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

def count(requests, context):
    return str(sum(len(request) for request in requests)).encode()

handlers = grpc.method_handlers_generic_handler("demo.Echo", {
    "Say": grpc.unary_unary_rpc_method_handler(say),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Count": grpc.stream_unary_rpc_method_handler(count),
})
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((handlers,))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"#;

const CLIENT: &str = r#"
import grpc, json, queue, socket, ssl, sys, time
port, ca, token = sys.argv[1:]
options = [("grpc.ssl_target_name_override", "gw.localhost"), ("grpc.default_authority", "gw.localhost:" + port)]
# The certificate itself is trusted: BoringSSL takes no authority with the name constraints that ours has.
end = b"-----END CERTIFICATE-----"
leaf = open(ca, "rb").read().split(end)[0] + end + b"\n"
channel = grpc.secure_channel("127.0.0.1:" + port, grpc.ssl_channel_credentials(leaf), options)
path = "/imense/model/demo.Echo/"
bearer = [("authorization", "Bearer " + token)]
result = {}

answer, call = channel.unary_unary(path + "Say").with_call(b"hello", metadata=bearer, timeout=30)
result["say"] = [answer.decode(), dict(call.trailing_metadata())]

def rest():
    """Comes back when a body of another kind has rested for longer than the gateway waits for it."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(port)), 30) as plain:
        with ssl._create_unverified_context().wrap_socket(plain, server_hostname="gw.localhost") as wire:
            wire.sendall(f"POST /api/v1/sessions HTTP/1.1\r\nHost: gw.localhost:{port}\r\n"
                         "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{".encode())
            try:
                while wire.recv(4096):
                    pass
            except ConnectionError:
                pass
    assert time.monotonic() - began >= 1, "it was ended before its time"

# Each word is sent only when the answer to the one before has come.
words = queue.Queue()
words.put(b"0")
heard = []
for answer in channel.stream_stream(path + "Chat")(iter(words.get, None), metadata=bearer, timeout=30):
    heard.append(answer.decode())
    if len(heard) == 2:
        rest()
    words.put(str(len(heard)).encode() if len(heard) < 5 else None)
result["chat"] = heard

pieces = (b"x" * 100_000 for _ in range(100))
result["count"] = channel.stream_unary(path + "Count")(pieces, metadata=bearer, timeout=60).decode()

def failing(name, metadata):
    try:
        channel.unary_unary(path + name)(b"x", metadata=metadata, timeout=30)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
result["fail"] = failing("Fail", bearer)
result["stranger"] = failing("Say", [])[0]
result["no task"] = failing("Other", bearer)[0]
print(json.dumps(result))
"#;

const TASKS: &str = r#"
[[task]]
name = "say"
match = ["POST /demo.Echo/Say"]
kind = "execute"

[[task]]
name = "chat"
match = ["POST /demo.Echo/Chat"]
kind = "execute"

[[task]]
name = "fail"
match = ["POST /demo.Echo/Fail"]
kind = "read"

[[task]]
name = "count"
match = ["POST /demo.Echo/Count"]
kind = "read"
"#;

struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python(program: &str) -> Command {
    let mut command = Command::new(PYTHON);
    command.args(["-c", program]).stdin(Stdio::null());
    command
}

#[test]
fn messages_trailers_and_refusals_pass_as_they_are() {
    let mut world = World::initialised();
    let file = world.data().join("countersign.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("[gateway]", "[gateway]\nbody_timeout = \"1s\"");
    std::fs::write(&file, text).unwrap();
    world.serve();
    world.admin().person("john", &["scientist"]);
    let mut child = python(TOOL)
        .stdout(Stdio::piped())
        .spawn()
        .expect("grpcio is installed (tests/peers/install)");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let _tool = Tool(child);
    let port = line.trim();
    assert!(!port.is_empty(), "grpcio is not installed (tests/peers/install)");
    let url = format!("http://127.0.0.1:{port}");
    wrap_with(&world, "model", &url, &["--http2"], TASKS);
    let output = python(CLIENT)
        .arg(world.port().to_string())
        .arg(world.data().join("tls/server.pem"))
        .arg(world.token("john"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let result: Value = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(result["say"][0], "you said hello");
    let trailers = &result["say"][1];
    assert_eq!(
        (&trailers["x-sum"], &trailers["x-named"], &trailers["x-bearer"]),
        (&"5".into(), &"say".into(), &"none".into())
    );
    assert_eq!(
        trailers["x-countersign-task"],
        Value::Null,
        "what only the gateway may say does not pass as a trailer"
    );
    assert_eq!(result["chat"], serde_json::json!(["<0", "<1", "<2", "<3", "<4"]));
    assert_eq!(result["count"], "10000000");
    assert_eq!(result["fail"], serde_json::json!(["NOT_FOUND", "no such thing"]));
    assert_eq!(
        (&result["stranger"], &result["no task"]),
        (&"UNAUTHENTICATED".into(), &"PERMISSION_DENIED".into())
    );
    let counted = until("the outcomes", || {
        let records = world.records();
        let outcomes = records.iter().map(|record| record["event"]["outcome"].clone());
        outcomes
            .into_iter()
            .find(|outcome| outcome["bytes_in"].as_u64() > Some(10_000_000))
    });
    assert_eq!(counted["ending"], "answered");
}
