package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/liverec/liverec/pkg/failure"
)

// newTransport is made for few hosts, many connections and large bodies. There is no limit on the time of a whole
// exchange: progress is watched by whoever calls.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial(&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}),
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   16,
		WriteBufferSize:       256 << 10,
		ReadBufferSize:        64 << 10,
		DisableCompression:    true,
	}
}

// dial makes connections that take bodies in large pieces.
func dial(d *net.Dialer) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return wideConn{c}, nil
	}
}

// wideConn takes a body in pieces of 256 KiB, which it holds as long as the body is on its way. A TCP connection left to
// itself takes what is no plain file in pieces of 32 KiB, past the write buffer of the transport, and each piece has its
// price: two calls of the system, the watch over the progress, the lock of the body.
type wideConn struct{ net.Conn }

// ReadFrom sends all of r. What lies in a file the system moves by itself, where it can and nothing stands between the
// body and the network.
func (c wideConn) ReadFrom(r io.Reader) (int64, error) {
	var moved int64
	if l, ok := r.(*io.LimitedReader); ok {
		if body, ok := l.R.(io.WriterTo); ok {
			if m := newMover(c.Conn, l.N); m != nil {
				n, err := body.WriteTo(m)
				l.N -= n
				if moved = n; !errors.Is(err, errors.ErrUnsupported) {
					return moved, err
				}
			}
		}
	}
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	n, err := io.CopyBuffer(struct{ io.Writer }{c.Conn}, struct{ io.Reader }{r}, *bp)
	return moved + n, err
}

// splitEndpoint gives host and scheme in the way minio-go wants them.
func splitEndpoint(endpoint string) (host string, secure bool, err error) {
	if endpoint == "" {
		return "s3.amazonaws.com", true, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", false, errors.New("the endpoint must be http://HOST[:PORT] or https://HOST[:PORT], without a path")
	}
	return u.Host, u.Scheme == "https", nil
}

// note is what an answer said besides the error: minio-go keeps the headers to itself.
type note struct {
	status int
	header http.Header
}

type noteKey struct{}

// unsupported reports an answer that a store gives to a header which it does not know.
func (n *note) unsupported() bool {
	return n.status == http.StatusNotImplemented || n.status == http.StatusBadRequest
}

// tap writes the answer's status and headers into the note of the request's context.
type tap struct{ next http.RoundTripper }

func (t tap) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if n, ok := req.Context().Value(noteKey{}).(*note); ok {
		*n = note{}
		if resp != nil {
			*n = note{status: resp.StatusCode, header: resp.Header}
		}
	}
	return resp, err
}

// provider finds credentials as all tools for S3 do: environment, shared files, and the machine's or container's role
// where there is nothing else. It is asked again when a store refuses them.
type provider struct {
	getenv func(string) string
	amazon bool
	from   credentials.Provider
}

const noCredentials = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put them into ~/.aws/credentials (profile: AWS_PROFILE, file: AWS_SHARED_CREDENTIALS_FILE)."

// roleTimeout bounds the question for a role: outside of Amazon nobody answers it.
const roleTimeout = 2 * time.Second

func (p *provider) IsExpired() bool { return p.from == nil || p.from.IsExpired() }

func (p *provider) Retrieve() (credentials.Value, error) {
	return p.RetrieveWithCredContext(&credentials.CredContext{Client: &http.Client{Transport: newTransport(), Timeout: roleTimeout}})
}

func (p *provider) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	missing := func(code string, err error) (credentials.Value, error) {
		return credentials.Value{}, &failure.Error{Kind: failure.NeedsHuman, Code: code, Err: err, Hint: noCredentials}
	}
	first := func(names ...string) string {
		for _, n := range names {
			if v := p.getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	id, secret := first("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"), first("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY")
	switch {
	case id != "" && secret != "":
		s := &credentials.Static{Value: credentials.Value{AccessKeyID: id, SecretAccessKey: secret,
			SessionToken: p.getenv("AWS_SESSION_TOKEN"), SignerType: credentials.SignatureV4}}
		p.from = s
		return s.RetrieveWithCredContext(cc)
	case id != "":
		return missing("AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not", nil)
	case secret != "":
		return missing("AWS_SECRET_ACCESS_KEY is set, AWS_ACCESS_KEY_ID is not", nil)
	}
	if v, found, err := p.files(cc); found || err != nil {
		if err != nil {
			return missing("shared credentials file", err)
		}
		return v, nil
	}
	ctx := cc.Context
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, roleTimeout)
	defer cancel()
	role := &credentials.CredContext{Client: cc.Client, Endpoint: cc.Endpoint, Context: ctx}
	if first("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE") != "" {
		iam := &credentials.IAM{}
		v, err := iam.RetrieveWithCredContext(role)
		if err != nil {
			return credentials.Value{}, &failure.Error{Op: "ask for the container's role", Err: err}
		}
		p.from = iam
		return v, nil
	}
	if p.amazon && !strings.EqualFold(p.getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		iam := &credentials.IAM{}
		if v, err := iam.RetrieveWithCredContext(role); err == nil && v.AccessKeyID != "" {
			p.from = iam
			return v, nil
		}
	}
	return missing("no credentials", nil)
}

// files looks into the shared files. found is false where there is neither a file nor the profile in it.
func (p *provider) files(cc *credentials.CredContext) (v credentials.Value, found bool, err error) {
	creds, config := sharedFiles(p.getenv)
	named := p.getenv("AWS_PROFILE") != "" || p.getenv("AWS_SHARED_CREDENTIALS_FILE") != ""
	profile := p.getenv("AWS_PROFILE")
	if profile == "" {
		profile = "default"
	}
	var tried error
	for _, name := range []string{creds, config} {
		if name == "" {
			continue
		}
		if _, err := os.Stat(name); err != nil {
			tried = errors.Join(tried, err)
			continue
		}
		f := &credentials.FileAWSCredentials{Filename: name, Profile: profile}
		v, err := f.RetrieveWithCredContext(cc)
		if err != nil {
			tried = errors.Join(tried, fmt.Errorf("profile %s in %s: %w", profile, name, err))
			continue
		}
		if v.AccessKeyID != "" && v.SecretAccessKey != "" {
			p.from = f
			return v, true, nil
		}
	}
	if named {
		return v, false, tried // somebody meant a file, so a role is not what they want
	}
	return v, false, nil
}

func sharedFiles(getenv func(string) string) (creds, config string) {
	creds, config = getenv("AWS_SHARED_CREDENTIALS_FILE"), getenv("AWS_CONFIG_FILE")
	if home := getenv("HOME"); home != "" {
		if creds == "" {
			creds = filepath.Join(home, ".aws", "credentials")
		}
		if config == "" {
			config = filepath.Join(home, ".aws", "config")
		}
	}
	return creds, config
}

// regionFromEnv is what the environment or the profile says, empty if they say nothing.
func regionFromEnv(getenv func(string) string) string {
	for _, n := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if v := getenv(n); v != "" {
			return v
		}
	}
	_, config := sharedFiles(getenv)
	data, err := os.ReadFile(config)
	if err != nil {
		return ""
	}
	profile := getenv("AWS_PROFILE")
	if profile == "" {
		profile = "default"
	}
	in := false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			name := strings.TrimSpace(strings.TrimPrefix(strings.Trim(line, "[] \t"), "profile "))
			in = name == profile
			continue
		}
		if k, v, ok := strings.Cut(line, "="); in && ok && strings.TrimSpace(k) == "region" {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
