// The same from JavaScript, with what its runtime has at hand. @NAMES@ are filled in by interpreters.rs.
const fs = require("fs"), net = require("net"), dgram = require("dgram"), child = require("child_process"), workers = require("worker_threads");
const OUTSIDE = "@OUTSIDE@", MARK = "@MARK@", VICTIM = @VICTIM@;

function each(what, act) {
  console.log("TRY", what);
  try {
    const found = act();
    if (found) console.log("SEEN", what, String(found).slice(0, 200));
  } catch {}
}

const key = OUTSIDE + "/.ssh/id_rsa";
const behind = ["/proc/1/root", "/proc/self/root", "/proc/" + VICTIM + "/root", "/proc/thread-self/root"];
// What may be read is, so that silence means something.
each("control", () => fs.readFileSync("/workspace/meter/fees.py"));
each("control", () => child.execSync("cat /workspace/meter/fees.py"));
for (const path of [key, ...behind.map((one) => one + key), "file://" + key, "/workspace/.." + key, "/proc/" + VICTIM + "/environ", "/proc/" + VICTIM + "/mem",
  "/proc/1/mem", "/proc/kcore", "/dev/mem", "/etc/shadow"]) {
  each("read " + path, () => fs.readFileSync(path));
  each("read by url " + path, () => fs.readFileSync(new URL(path, "file://")));
}
each("import", () => require(OUTSIDE + "/module.js"));
each("list", () => fs.readdirSync(OUTSIDE));
for (const path of [OUTSIDE + "/planted", "/usr/bin/planted-" + MARK, "/etc/planted-" + MARK, "/planted-" + MARK, "/proc/sys/kernel/core_pattern", "/proc/self/uid_map"]) {
  each("write " + path, () => { fs.writeFileSync(path, "planted"); return true; });
}
each("link", () => { fs.symlinkSync(OUTSIDE, "/workspace/link"); return fs.readFileSync("/workspace/link/.ssh/id_rsa"); });
each("copy", () => { fs.cpSync(OUTSIDE, "/workspace/copy", { recursive: true }); return fs.readFileSync("/workspace/copy/.ssh/id_rsa"); });
each("kill", () => process.kill(VICTIM, "SIGKILL"));
// The signal at which a JavaScript runtime opens its debugger, and the debugger of this one.
each("debug", () => process.kill(VICTIM, "SIGUSR1"));
each("inspector", () => { require("inspector").open(0, "0.0.0.0"); return false; });
each("setuid", () => { process.setuid(0); return true; });
for (const [name, args] of [["unshare", ["-Ur", "true"]], ["mount", ["-t", "tmpfs", "x", "/tmp"]], ["chroot", ["/proc/1/root", "/bin/true"]], ["nsenter", ["-t", "1", "-m", "true"]],
  ["su", ["-c", "true"]], ["sudo", ["-n", "true"]], ["strace", ["-p", "1"]], ["gdb", ["-p", "1", "--batch"]]]) {
  each("run " + name, () => child.spawnSync(name, args, { timeout: 5000 }).status === 0);
}
each("read in a shell", () => child.execSync("cat " + key + " /proc/" + VICTIM + "/environ 2>/dev/null; true").toString());
// Memory that is shared with workers which never end.
const shared = new SharedArrayBuffer(1 << 20);
for (let n = 0; n < 4; n++) {
  each("worker", () => { new workers.Worker("for (;;) {}", { eval: true, workerData: shared }).unref(); return false; });
}
for (let n = 0; n < 20; n++) {
  each("leave", () => { child.spawn("sleep", ["600"], { argv0: MARK, detached: true, stdio: "ignore" }).on("error", () => {}).unref(); return false; });
}

const places = [{ host: "127.0.0.1", port: @PORT@ }, { host: "::ffff:127.0.0.1", port: @PORT@ }, { path: "\0" + MARK }, { path: OUTSIDE + "/socket" }];
let left = places.length + 1;
function over() {
  if (--left === 0) {
    console.log("DONE");
    process.exit(0);
  }
}
for (const place of places) {
  let ended = false;
  const end = () => { if (!ended) { ended = true; over(); } };
  const peer = net.connect(place, () => { console.log("SEEN socket", place); peer.write("reached"); peer.destroy(); });
  peer.on("error", end);
  peer.on("close", end);
  peer.setTimeout(2000, () => peer.destroy());
}
const datagram = dgram.createSocket("udp4");
datagram.on("error", () => {});
datagram.send("reached", @UDP@, "127.0.0.1", over);
