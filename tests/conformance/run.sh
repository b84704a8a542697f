#!/usr/bin/env bash
# Judge an MCP server with the official conformance suite (npm package
# @modelcontextprotocol/conformance): every server scenario, at every spec
# version the suite knows, with both the stable and the pre-release suite.
#
#   tests/conformance/run.sh http://127.0.0.1:8000/mcp
#
# Needs: bash, npm (any Node; a Node 22 is installed from npm when there is no
# newer one). Nothing is installed outside the cache folder.
#
#   MCP_CONFORMANCE_NODE        node to use                (node on PATH)
#   MCP_CONFORMANCE_NPM         npm to use, an executable  (npm on PATH)
#                               or a .js for that node
#   MCP_CONFORMANCE_CACHE       where npm installs go      (~/.cache/django_mcp/conformance)
#   MCP_CONFORMANCE_OUT         raw results of this run    (a new folder in the cache)
#   MCP_CONFORMANCE_VERSIONS    suite versions             ("0.1.16 0.2.0-alpha.12")
#   MCP_CONFORMANCE_SPECS       only these spec versions   (all that a suite lists)
#   MCP_CONFORMANCE_EXTENSIONS  report | score | off       (report: shown, not counted)
#   MCP_CONFORMANCE_SDK         version of @modelcontextprotocol/sdk that drives
#                               the suite (pinned so that runs compare)  (1.32.2)
#
# The URL's host must be localhost, 127.0.0.1 or [::1]: one scenario tests
# DNS-rebinding protection and fails by rule on any other host.
# The last line, "N passed, N failed", counts scenario runs; check counts stand above it.
# There is no list of known failures.
# Exit: 0 nothing failed, 1 something failed, 2 could not run.
set -u

URL="${1:-}"
if [ -z "$URL" ] || [ "$URL" = "-h" ] || [ "$URL" = "--help" ]; then
    awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
    exit 2
fi

CACHE="${MCP_CONFORMANCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/django_mcp/conformance}"
VERSIONS="${MCP_CONFORMANCE_VERSIONS:-0.1.16 0.2.0-alpha.12}"
EXTENSIONS="${MCP_CONFORMANCE_EXTENSIONS:-report}"
SDK="${MCP_CONFORMANCE_SDK:-1.32.2}"
NODE_MAJOR=22
mkdir -p "$CACHE" || exit 2
OUT="${MCP_CONFORMANCE_OUT:-$CACHE/results/$(date +%Y%m%d-%H%M%S)-$$}"
mkdir -p "$OUT" || exit 2
OUT="$(cd "$OUT" && pwd)"
: > "$OUT/manifest.tsv"

die() { echo "conformance: $*" >&2; exit 2; }
NODE="${MCP_CONFORMANCE_NODE:-$(command -v node || true)}"
NPM="${MCP_CONFORMANCE_NPM:-$(command -v npm || true)}"
[ -n "$NPM" ] || die "npm is not on PATH"
# What packages run while they are installed finds this node, too.
if [ -n "${MCP_CONFORMANCE_NODE:-}" ]; then PATH="$(dirname "$NODE"):$PATH"; fi
npm() { case "$NPM" in *.js) "$NODE" "$NPM" "$@" ;; *) command "$NPM" "$@" ;; esac }

npm_put() { # folder, package.json text: install once, redo when the text changes
    local dir="$1" want="$2"
    if [ -f "$dir/.done" ] && [ "$(cat "$dir/.done")" = "$want" ]; then return 0; fi
    rm -rf "$dir" && mkdir -p "$dir" && printf '%s\n' "$want" > "$dir/package.json" || return 1
    (cd "$dir" && npm install --no-audit --no-fund --loglevel=error) > "$dir/install.log" 2>&1 || {
        cat "$dir/install.log" >&2
        return 1
    }
    printf '%s' "$want" > "$dir/.done"
}

# The suite imports fs.globSync, which Node 20 does not have.
if [ -z "$NODE" ] || ! "$NODE" -e 'process.exit(require("fs").globSync ? 0 : 1)' 2> /dev/null; then
    echo "no node as new as 22: using node@$NODE_MAJOR from npm" >&2
    npm_put "$CACHE/node$NODE_MAJOR" "{\"private\":true,\"dependencies\":{\"node\":\"$NODE_MAJOR\"}}" || die "could not install node@$NODE_MAJOR"
    NODE="$CACHE/node$NODE_MAJOR/node_modules/.bin/node"
    "$NODE" -e 'process.exit(require("fs").globSync ? 0 : 1)' || die "$NODE does not run"
fi

cli_of() { echo "$CACHE/suite-$1/node_modules/@modelcontextprotocol/conformance/dist/index.js"; }
for v in $VERSIONS; do
    npm_put "$CACHE/suite-$v" "{\"private\":true,\"dependencies\":{\"@modelcontextprotocol/conformance\":\"$v\"},\"overrides\":{\"@modelcontextprotocol/sdk\":\"$SDK\"}}" ||
        die "could not install the conformance suite $v"
done

"$NODE" -e '
const until = Date.now() + 15000;
(async () => {
  for (;;) {
    try { await fetch(process.argv[1], { signal: AbortSignal.timeout(3000), headers: { accept: "text/html" } }); process.exit(0); }
    catch (e) { if (e.name === "TimeoutError") process.exit(0); if (Date.now() > until) process.exit(1); }
    await new Promise((r) => setTimeout(r, 300));
  }
})();' "$URL" || die "nothing answers at $URL"

bounded() { if command -v timeout > /dev/null; then timeout 900 "$@"; else "$@"; fi; }

for v in $VERSIONS; do
    cli="$(cli_of "$v")"
    "$NODE" "$cli" list --server > "$OUT/list-$v.txt" 2>&1 || die "suite $v does not list its scenarios"
    specs="$(sed -n 's/^  - [^ ]* \[\(.*\)\]$/\1/p' "$OUT/list-$v.txt" | tr ',' '\n' | grep '^20' | sort -u)"
    for spec in $specs; do
        if [ -n "${MCP_CONFORMANCE_SPECS:-}" ]; then
            case " $MCP_CONFORMANCE_SPECS " in *" $spec "*) ;; *) continue ;; esac
        fi
        "$NODE" "$cli" list --server --spec-version "$spec" | sed -n 's/^  - \([^ ]*\).*/\1/p' |
            while read -r s; do printf '%s\t%s\t%s\n' "$v" "$spec" "$s"; done >> "$OUT/manifest.tsv"
        mkdir -p "$OUT/$v/$spec"
        echo "running suite $v at $spec ..." >&2
        bounded "$NODE" "$cli" server --url "$URL" --suite all --spec-version "$spec" \
            -o "$OUT/$v/$spec" > "$OUT/$v/$spec.log" 2>&1
    done
    if [ "$EXTENSIONS" != off ]; then
        for s in $(sed -n 's/^  - \([^ ]*\) \[extension\]$/\1/p' "$OUT/list-$v.txt"); do
            printf '%s\t%s\t%s\n' "$v" extension "$s" >> "$OUT/manifest.tsv"
            mkdir -p "$OUT/$v/extension"
            bounded "$NODE" "$cli" server --url "$URL" --scenario "$s" \
                -o "$OUT/$v/extension" >> "$OUT/$v/extension.log" 2>&1
        done
    fi
    for req in 2025-11-25 2026-07-28; do # frozen lists; only the pre-release has them
        "$NODE" "$cli" list --requirements "$req" > "$OUT/$v/required-$req.txt" 2> /dev/null || rm -f "$OUT/$v/required-$req.txt"
    done
done

"$NODE" - "$OUT" "$EXTENSIONS" "$URL" <<'JS'
const fs = require('fs');
const path = require('path');
const [out, extensions, url] = process.argv.slice(2);
const legs = new Map();
for (const line of fs.readFileSync(path.join(out, 'manifest.tsv'), 'utf8').split('\n')) {
  if (!line) continue;
  const [version, spec, scenario] = line.split('\t');
  const key = `${version}\t${spec}`;
  if (!legs.has(key)) legs.set(key, []);
  legs.get(key).push(scenario);
}
const total = { pass: 0, fail: 0, ok: 0, bad: 0 }; // checks, then scenario runs
const side = { pass: 0, fail: 0, ok: 0, bad: 0 };
const scenarioOk = new Map();
const row = (name, ...cells) => `  ${name.padEnd(48)}` + cells.map((c) => String(c).padStart(6)).join('');
for (const [key, scenarios] of legs) {
  const [version, spec] = key.split('\t');
  const dir = path.join(out, version, spec);
  const folders = fs.existsSync(dir) ? fs.readdirSync(dir).sort() : [];
  console.log(`\nsuite ${version}, ${spec === 'extension' ? 'extensions (off the spec timeline)' : 'spec ' + spec}`);
  console.log(row('scenario', 'pass', 'fail', 'warn', 'skip'));
  const sum = { pass: 0, fail: 0, warn: 0, skip: 0, clean: 0, bad: 0 };
  const notes = [];
  for (const scenario of scenarios) {
    const folder = folders.filter((f) => f.startsWith(`server-${scenario}-`) && /^\d{4}-\d\d-\d\dT/.test(f.slice(scenario.length + 8))).pop();
    const file = folder && path.join(dir, folder, 'checks.json');
    let checks = [{ id: 'no-result', status: 'FAILURE', errorMessage: 'the suite wrote no result (crash or time-out); see the .log file' }];
    if (file && fs.existsSync(file)) checks = JSON.parse(fs.readFileSync(file, 'utf8'));
    const n = { pass: 0, fail: 0, warn: 0, skip: 0 };
    for (const c of checks) {
      if (c.status === 'SUCCESS') n.pass++;
      else if (c.status === 'WARNING') n.warn++;
      else if (c.status === 'SKIPPED') n.skip++;
      else if (c.status === 'FAILURE') n.fail++;
      if (c.status === 'FAILURE' || c.status === 'WARNING') {
        const why = (c.errorMessage || c.description || '').replace(/\s+/g, ' ').slice(0, 240);
        notes.push(`    ${c.status === 'FAILURE' ? 'FAIL' : 'warn'} ${scenario}:${c.id}${c.name && c.name !== c.id ? ` (${c.name})` : ''}  ${why}`);
      }
    }
    for (const k of ['pass', 'fail', 'warn', 'skip']) sum[k] += n[k];
    const ok = n.fail === 0;
    if (ok) sum.clean++;
    if (n.fail) sum.bad++;
    scenarioOk.set(`${key}\t${scenario}`, ok);
    console.log(row((ok ? 'ok   ' : 'FAIL ') + scenario, n.pass, n.fail, n.warn, n.skip));
  }
  console.log(row(`= ${sum.clean}/${scenarios.length} scenarios without a failed check`, sum.pass, sum.fail, sum.warn, sum.skip));
  if (notes.length) console.log(notes.join('\n'));
  const bucket = spec === 'extension' && extensions !== 'score' ? side : total;
  bucket.pass += sum.pass;
  bucket.fail += sum.fail;
  bucket.bad += sum.bad;
  bucket.ok += scenarios.length - sum.bad;
}
console.log('');
for (const version of new Set([...legs.keys()].map((k) => k.split('\t')[0]))) {
  for (const req of ['2025-11-25', '2026-07-28']) {
    const file = path.join(out, version, `required-${req}.txt`);
    if (!fs.existsSync(file) || !legs.has(`${version}\t${req}`)) continue;
    const block = (fs.readFileSync(file, 'utf8').split(/^Server scenarios.*$/m)[1] || '').split(/^\s*$/m)[0];
    const names = [...block.matchAll(/^  - (\S+)/gm)].map((m) => m[1]);
    if (!names.length) continue;
    const bad = names.filter((s) => !scenarioOk.get(`${version}\t${req}\t${s}`));
    console.log(`required by ${req} (frozen set, suite ${version}): ${names.length - bad.length}/${names.length} scenarios` + (bad.length ? `; not met: ${bad.join(', ')}` : ''));
  }
}
if (side.ok + side.bad) console.log(`extension scenarios, not counted below: ${side.ok} without a failed check, ${side.bad} with (checks: ${side.pass} pass, ${side.fail} fail)`);
console.log(`checks: ${total.pass} pass, ${total.fail} fail`);
console.log(`server: ${url}\nraw results: ${out}`);
// The last line counts scenario runs (scenario x spec version x suite version), not
// checks: a server that answers nothing at all still gets a vacuous
// wire-schema-valid SUCCESS in most scenarios.
console.log(`${total.ok} passed, ${total.bad} failed`);
process.exit(total.bad === 0 && total.ok > 0 ? 0 : 1);
JS
