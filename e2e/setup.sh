#!/usr/bin/env bash
# Gets what the tests need: Debian packages if some program is missing (as root; otherwise it says which), and the
# pinned test servers from e2e/tools into $TOOLS. A second run takes a second.
set -euo pipefail
cd "$(dirname "$0")/tools"
: "${TOOLS:?the folder for the test servers}"
mkdir -p "$TOOLS"

missing=()
need() { # program package
	command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}
need git git
need curl curl
need ffmpeg ffmpeg
need ffprobe ffmpeg
need chromium chromium
need gst-launch-1.0 gstreamer1.0-tools
gst-inspect-1.0 qtdemux >/dev/null 2>&1 && gst-inspect-1.0 flvdemux >/dev/null 2>&1 || missing+=(gstreamer1.0-plugins-good)
need buildah buildah
need gcc gcc
need setpriv util-linux
[ -x /usr/sbin/apache2 ] || missing+=(apache2-bin)
need ssh-keygen openssh-client
[ -x /usr/sbin/sshd ] || missing+=(openssh-server)
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
if [ "$(id -u)" = 0 ] && ! python3 -c 'import ensurepip' >/dev/null 2>&1; then
	missing+=(python3-venv)
fi
if [ ${#missing[@]} -gt 0 ]; then
	mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
		echo "make test needs these packages: ${missing[*]}. On Debian: apt-get install ${missing[*]}" >&2
		exit 1
	fi
	echo "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

tool() { # name package
	local want
	want=$(sha256sum go.mod go.sum | sha256sum)
	if [ -x "$TOOLS/$1" ] && [ "$(cat "$TOOLS/$1.pin" 2>/dev/null)" = "$want" ]; then
		return
	fi
	echo "building $1 (the first time takes minutes)"
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$TOOLS/$1" "$2"
	printf '%s' "$want" >"$TOOLS/$1.pin"
}
tool versitygw github.com/versity/versitygw/cmd/versitygw
tool lalserver github.com/q191201771/lal/app/lalserver

# The client that fuzzes the API comes from PyPI into a folder of its own. Where Python or PyPI is not there, its test is
# skipped.
schemathesis=4.32.5
venv=$TOOLS/../venv
if [ "$(cat "$venv/pin" 2>/dev/null)" != "$schemathesis" ]; then
	echo "installing schemathesis $schemathesis"
	if python3 -m venv --clear "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$schemathesis"; then
		ln -sf "$(cd "$venv" && pwd)/bin/schemathesis" "$TOOLS/schemathesis"
		printf '%s' "$schemathesis" >"$venv/pin"
	else
		echo "schemathesis is not to be had; TestSchemathesis will be skipped" >&2
	fi
fi
