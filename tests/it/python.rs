//! Tools in a few lines of Python: they keep what reaches them and answer as their path says.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::world::World;

/// Notes method, path and headers of every request in `kept`, one JSON document a line. `/answer/418` answers 418.
const PROGRAM: &str = r#"
import http.server, json, sys
class Tool(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with open(sys.argv[1], "a") as kept:
            print(json.dumps({"method": self.command, "path": self.path, "headers": list(self.headers.items()),
                              "body": body.decode("latin-1")}), file=kept, flush=True)
        parts = self.path.split("/")
        status = int(parts[2]) if parts[1] == "answer" else 200
        said = json.dumps({"path": self.path}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    do_GET = do_POST = do_DELETE = answer
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tool)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// A running tool.
pub struct PythonTool {
    child: Child,
    port: u16,
    kept: PathBuf,
}

impl PythonTool {
    /// Starts one that keeps what it got in a file below `folder`.
    pub fn start(folder: &Path) -> Self {
        Self::running(PROGRAM, &folder.join("kept.jsonl"))
    }

    /// Starts a program that prints its port; it gets `kept` as its argument.
    pub fn running(program: &str, kept: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", program])
            .arg(kept)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs (apt-get install python3)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            port: line.trim().parse().unwrap(),
            kept: kept.to_owned(),
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What reached it, oldest first.
    pub fn seen(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.kept).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Ends it, as a tool that goes down.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for PythonTool {
    fn drop(&mut self) {
        self.end();
    }
}

/// Wraps a tool as `name` with the tasks `look` (GET /look, GET /answer/N) and `act` (POST /act), for scientists.
pub fn wrap(world: &World, name: &str, url: &str, delegation: &str) {
    let file = world.dir.path().join(format!("{name}.toml"));
    let text = format!(
        "[tool]\nname = \"{name}\"\nupstream = \"{name}\"\nhosts = [\"{name}.gw.localhost\"]\ndelegation = \"{delegation}\"\n\n\
         [[task]]\nname = \"look\"\nmatch = [\"GET /look\", \"GET /answer/{{status:int}}\"]\nkind = \"read\"\n\n\
         [[task]]\nname = \"act\"\nmatch = [\"POST /act\"]\nkind = \"update\"\n"
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    world
        .cli("admin", &["upstream", "allow", "imense", name, url])
        .ok();
    world.cli("admin", &["tool", "add", "imense", file]).ok();
    world
        .cli(
            "admin",
            &["grant", "add", "imense", "scientist", name, "look", "act"],
        )
        .ok();
}
