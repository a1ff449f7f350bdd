// Package s3 keeps segments in S3 and in everything that speaks it.
//
// It owns the objects and the multipart uploads under its prefix: what it opens it completes or aborts, also where the
// answer to the opening was lost. It never overwrites an object that is not its own copy of the same segment, never
// retries by itself (the lanes do), and never takes "could not ask" for "not there".
//
// # One segment
//
// A segment is a multipart upload, also a small one: nothing is to be seen under the final name before Commit. Part
// number = chunk index + 1, all parts are equal but the last. Each part carries its CRC-32C, which the store checks
// before it answers; Verify is a HEAD that compares size and the CRC-32C of the whole (of the parts' CRCs, as S3 composes
// it). A store that knows no such checksums gets Content-MD5, and the composite of the MD5s is its ETag. A store that has
// neither is read back. Objects carry x-amz-meta-liverec-segment, so that our own earlier copy is known from a
// stranger's file.
//
// Requests for a part: HEAD and list uploads at once, create, PUT …, complete and list uploads at once, HEAD. The second listing finds what
// the first one did not know yet: an upload whose creation we never heard about, on a store that lists late. Where the
// answer to a creation or an abort was lost, the key is looked at once more after each Check, Commit and Keep of the next
// minute, and at Close. A store that lists nothing by prefix (MinIO, rclone) leaves such an upload to its own expiry; see docs of the bucket's lifecycle
// rule AbortIncompleteMultipartUpload.
package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// Config says where the bucket is.
type Config struct {
	ID     segment.TargetID
	Bucket string
	Prefix string // without slashes at its ends; may be empty
	// Endpoint is "http://host:port" or "https://host"; empty: Amazon. Addresses and all hosts but the big clouds'
	// get the bucket in the path.
	Endpoint string
	Region   string // empty: AWS_REGION, AWS_DEFAULT_REGION, the profile's, what the store answers
	Reread   bool   // Verify downloads and compares the SHA-256
	// Getenv is the environment, for AWS_* and HOME. Nil: it is empty.
	Getenv  func(string) string
	Version string // of liverec, for the User-Agent
	// Sums saves reading a chunk for its CRC-32C before it is sent, where it was read before. Nil: nothing was.
	Sums *uploader.Sums
	// Transport replaces the HTTP transport in tests, nil: our own.
	Transport http.RoundTripper

	part int64         // smallest part; 5 MiB but in tests
	late time.Duration // how late a store may list; a minute but in tests
}

// Limits of S3 itself. One part less than the 10,000 that S3 takes, so that the limit is never met.
const (
	minPart  = 5 << 20
	maxPart  = 5 << 30
	maxParts = 9999
	parallel = 8

	maxSmall = 64 << 20 // of what Recall reads into memory
	maxKey   = 1024
)

// segmentMeta is the metadata that names the segment an object is a copy of.
const segmentMeta = "Liverec-Segment"

// Target is a bucket with a prefix. It is safe for use by several goroutines.
type Target struct {
	cfg   Config
	creds *credentials.Credentials
	http  http.RoundTripper

	client atomic.Pointer[client]
	// What was learnt about the store. Each is an answer that was seen, and costs one request to learn again.
	plain    atomic.Bool // refuses CRC-32C headers: Content-MD5 instead
	confirms atomic.Bool // has confirmed a CRC-32C; until then Content-MD5 goes with it
	always   atomic.Bool // refuses If-None-Match: look first instead
	unlist   atomic.Bool // does not let us list uploads

	debts *debts // uploads that may have been left behind
}

type client struct {
	core   *minio.Core
	region string
}

var _ uploader.Target = (*Target)(nil)

// New checks the configuration. It asks nobody: Check does.
func New(cfg Config) (*Target, error) {
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	if cfg.Bucket == "" {
		return nil, errors.New("no bucket is named")
	}
	if cfg.ID == "" {
		cfg.ID = segment.TargetID("s3://" + path.Join(cfg.Bucket, cfg.Prefix))
	}
	if cfg.part == 0 {
		cfg.part = minPart
	}
	t := &Target{cfg: cfg, http: cfg.Transport, debts: newDebts(cfg.late)}
	if t.http == nil {
		t.http = newTransport()
	}
	t.creds = credentials.New(&provider{getenv: cfg.Getenv, amazon: cfg.Endpoint == ""})
	region := cfg.Region
	if region == "" {
		region = regionFromEnv(cfg.Getenv)
	}
	if region == "" && cfg.Endpoint != "" {
		region = "us-east-1" // what stores that know no regions expect; one that does tells us its own
	}
	if err := t.use(region); err != nil {
		return nil, err
	}
	return t, nil
}

// use makes the client for a region. Empty: minio-go asks Amazon for the bucket's.
func (t *Target) use(region string) error {
	host, secure, err := splitEndpoint(t.cfg.Endpoint)
	if err != nil {
		return err
	}
	core, err := minio.NewCore(host, &minio.Options{
		Creds:      t.creds,
		Secure:     secure,
		Transport:  tap{t.http},
		Region:     region,
		MaxRetries: 1,
	})
	if err != nil {
		return fmt.Errorf("set up S3 client for %s: %w", t.cfg.ID, err)
	}
	version := t.cfg.Version
	if version == "" {
		version = "dev"
	}
	core.SetAppInfo("liverec", version)
	t.client.Store(&client{core, region})
	return nil
}

// ID names the bucket.
func (t *Target) ID() segment.TargetID { return t.cfg.ID }

// Limits are those of S3.
func (t *Target) Limits() uploader.Limits {
	return uploader.Limits{MinChunk: t.cfg.part, MaxChunk: maxPart, MaxChunks: maxParts, Parallel: parallel, Growing: true}
}

// Close looks once more for uploads that may have been left behind, for a second at the most, and gives idle connections
// back. All other calls must have returned.
func (t *Target) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	t.pay(ctx, math.MaxInt, "")
	if c, ok := t.http.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	return nil
}

// key is the name of an object in the bucket.
func (t *Target) key(k string) string {
	if t.cfg.Prefix == "" {
		return k
	}
	return t.cfg.Prefix + "/" + k
}

func (t *Target) valid(op, key string) error {
	if key == "" || path.Clean(key) != key || strings.HasPrefix(key, "/") || strings.HasPrefix(key, "../") || !utf8.ValidString(key) {
		return &failure.Error{Op: op, Kind: failure.Permanent, Code: "this is no name for an object"}
	}
	if n := len(t.key(key)); n > maxKey {
		return &failure.Error{Op: op, Kind: failure.Permanent, Code: fmt.Sprintf("the name has %d bytes, S3 takes %d", n, maxKey),
			Hint: "Use a shorter --name or prefix."}
	}
	return nil
}

// call runs one exchange. A store that names another region than the one we guessed is asked again there.
func (t *Target) call(ctx context.Context, op string, f func(context.Context, *minio.Core) error) (*note, error) {
	for first := true; ; first = false {
		c := t.client.Load()
		n := &note{}
		err := f(context.WithValue(ctx, noteKey{}, n), c.core)
		if err == nil {
			return n, nil
		}
		if r := otherRegion(err, n); first && t.cfg.Region == "" && r != "" && r != c.region {
			if uerr := t.use(r); uerr == nil {
				continue
			}
		}
		return n, t.trouble(ctx, op, err, n)
	}
}

// Check opens an upload under the prefix and aborts it: that needs the bucket, the credentials, the clock and the
// permissions that recording needs, and leaves nothing behind: where an answer is lost, the next Check sweeps, and the
// next Commit, Keep and Close. The upload of another process that checks at this moment may be swept as well; it is only
// a probe.
func (t *Target) Check(ctx context.Context) error {
	op := "use " + string(t.cfg.ID)
	key := t.key(".liverec-check")
	if err := t.sweep(ctx, op, key, ""); err != nil {
		return err
	}
	t.pay(ctx, payAtOnce, key)
	id, _, err := t.create(ctx, op, key, segment.Object{Key: ".liverec-check"})
	if err != nil {
		return err
	}
	return t.abort(ctx, op, key, id)
}

// create opens a multipart upload and tells whether its parts carry CRC-32C.
func (t *Target) create(ctx context.Context, op, key string, o segment.Object) (id string, crc bool, err error) {
	for {
		crc = !t.plain.Load()
		opts := minio.PutObjectOptions{ContentType: contentType(key), UserMetadata: map[string]string{segmentMeta: o.ID.String()}}
		if crc {
			opts.UserMetadata["x-amz-checksum-algorithm"] = "CRC32C"
		}
		n, err := t.call(ctx, op, func(ctx context.Context, c *minio.Core) (err error) {
			id, err = c.NewMultipartUpload(ctx, t.cfg.Bucket, key, opts)
			return err
		})
		if err != nil && crc && n.unsupported() {
			t.plain.Store(true)
			continue
		}
		if err == nil && crc && strings.EqualFold(n.header.Get("x-amz-checksum-algorithm"), "CRC32C") {
			t.confirms.Store(true)
		}
		if err == nil && id == "" {
			err = &failure.Error{Op: op, Code: "no upload id in the answer", Hint: "Does this endpoint speak S3?"}
		}
		if unheard(err, n) {
			t.debts.owe(key)
		}
		return id, crc, err
	}
}

func (t *Target) abort(ctx context.Context, op, key, id string) error {
	n, err := t.call(ctx, op, func(ctx context.Context, c *minio.Core) error {
		return c.AbortMultipartUpload(ctx, t.cfg.Bucket, key, id)
	})
	if code(err) == minio.NoSuchUpload {
		return nil
	}
	if unheard(err, n) || n.status == http.StatusTooManyRequests {
		t.debts.owe(key)
	}
	return err
}

// sweep aborts all multipart uploads of exactly this key but one. A store that does not let us list is no error.
func (t *Target) sweep(ctx context.Context, op, key, but string) error {
	began := time.Now()
	if err := t.sweepAll(ctx, op, key, but); err != nil {
		return err
	}
	t.debts.looked(key, began)
	return nil
}

func (t *Target) sweepAll(ctx context.Context, op, key, but string) error {
	if t.unlist.Load() {
		return nil
	}
	var keyMarker, idMarker string
	for {
		var list minio.ListMultipartUploadsResult
		n, err := t.call(ctx, op, func(ctx context.Context, c *minio.Core) (err error) {
			list, err = c.ListMultipartUploads(ctx, t.cfg.Bucket, key, keyMarker, idMarker, "", 1000)
			return err
		})
		if err != nil {
			if n.status == http.StatusMethodNotAllowed || n.status == http.StatusNotImplemented {
				t.unlist.Store(true)
				return nil
			}
			if code(err) == minio.AccessDenied {
				return nil // a policy without s3:ListBucketMultipartUploads; what follows tells whether it is more than that
			}
			return err
		}
		for _, u := range list.Uploads {
			if u.Key == key && u.UploadID != "" && u.UploadID != but {
				if err := t.abort(ctx, op, key, u.UploadID); err != nil {
					return err
				}
			}
		}
		if !list.IsTruncated || list.NextKeyMarker == keyMarker && list.NextUploadIDMarker == idMarker || list.NextKeyMarker > key {
			return nil
		}
		keyMarker, idMarker = list.NextKeyMarker, list.NextUploadIDMarker
	}
}

// head asks for an object. failure.ErrAbsent is only said when the bucket itself answers.
func (t *Target) head(ctx context.Context, op, key string) (minio.ObjectInfo, error) {
	info, there, err := t.stat(ctx, op, key)
	if err == nil && !there {
		return info, t.absent(ctx, op)
	}
	return info, err
}

// stat asks for an object. there is false after a 404, which may come from anybody: it is no proof of anything.
func (t *Target) stat(ctx context.Context, op, key string) (info minio.ObjectInfo, there bool, err error) {
	n, err := t.call(ctx, op, func(ctx context.Context, c *minio.Core) (err error) {
		info, err = c.StatObject(ctx, t.cfg.Bucket, key, minio.StatObjectOptions{Checksum: true})
		return err
	})
	if err != nil && n.status == http.StatusNotFound {
		return info, false, nil
	}
	return info, err == nil, err
}

// absent says that an object is not there, unless the bucket is not there either: a 404 may come from anybody.
func (t *Target) absent(ctx context.Context, op string) error {
	found := false
	_, err := t.call(ctx, op, func(ctx context.Context, c *minio.Core) (err error) {
		found, err = c.BucketExists(ctx, t.cfg.Bucket)
		return err
	})
	switch {
	case err == nil && found:
		return &failure.Error{Op: op, Code: "404 NoSuchKey", Err: failure.ErrAbsent}
	case err == nil:
		return t.trouble(ctx, op, minio.ErrorResponse{Code: minio.NoSuchBucket, StatusCode: http.StatusNotFound}, &note{status: http.StatusNotFound})
	default:
		return err
	}
}

// Keep puts a small object over an older one of that name; S3 shows it whole or not at all.
func (t *Target) Keep(ctx context.Context, key string, data []byte) error {
	op := "keep " + key
	if err := t.valid(op, key); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	for {
		plain := t.plain.Load()
		opts := minio.PutObjectOptions{ContentType: contentType(key), DisableContentSha256: true, UserMetadata: map[string]string{}}
		md5 := ""
		if plain {
			md5 = base64MD5(data)
		} else {
			opts.UserMetadata[crcHeader] = base64CRC(crcOf(data))
		}
		n, err := t.call(ctx, op, func(ctx context.Context, c *minio.Core) error {
			_, err := c.PutObject(ctx, t.cfg.Bucket, t.key(key), bytes.NewReader(data), int64(len(data)), md5, hex.EncodeToString(sum[:]), opts)
			return err
		})
		if err != nil && !plain && n.unsupported() {
			t.plain.Store(true)
			continue
		}
		if err == nil {
			t.pay(ctx, payAtOnce, "")
		}
		return err
	}
}

// Recall reads a small object back.
func (t *Target) Recall(ctx context.Context, key string) ([]byte, error) {
	op := "recall " + key
	if err := t.valid(op, key); err != nil {
		return nil, err
	}
	var data []byte
	n, err := t.call(ctx, op, func(ctx context.Context, c *minio.Core) error {
		body, _, _, err := c.GetObject(ctx, t.cfg.Bucket, t.key(key), minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		defer body.Close()
		data, err = io.ReadAll(io.LimitReader(body, maxSmall+1))
		return err
	})
	switch {
	case err != nil && n.status == http.StatusNotFound:
		return nil, t.absent(ctx, op)
	case err != nil:
		return nil, err
	case len(data) > maxSmall:
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "larger than 64 MiB", Err: failure.ErrDamaged}
	}
	return data, nil
}

// contentType lets a browser play what it is given a link to.
func contentType(key string) string {
	switch path.Ext(key) {
	case ".flv":
		return "video/x-flv"
	case ".mp4":
		return "video/mp4"
	case ".ts":
		return "video/mp2t"
	case ".json":
		return "application/json"
	}
	return "application/octet-stream"
}
