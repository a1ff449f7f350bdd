package s3

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/minio/minio-go/v7"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// Tokens. The multipart ones are followed by the upload id.
const (
	tokenCRC   = "crc32c:" // the parts carry CRC-32C
	tokenPlain = "plain:"  // the store knows no such thing
	tokenThere = "there"   // the same object stood there already
)

// Tags are ETags. What we know of one besides stands behind a space; nothing: the store confirmed the CRC-32C.
const (
	tagMD5  = " md5"  // the ETag is the MD5 of the bytes that we sent
	tagNone = " none" // the store confirmed nothing: Verify reads the object back
)

// upload is one object on its way into the bucket.
type upload struct {
	t     *Target
	o     segment.Object
	key   string
	token string
	id    string      // multipart upload id, else ""
	crc   bool        // its parts carry CRC-32C
	doubt atomic.Bool // the local file and the body that we were handed differ: sum the body
}

var _ uploader.Upload = (*upload)(nil)

// upload makes the Upload that a token names.
func (t *Target) upload(o segment.Object, token string) *upload {
	u := &upload{t: t, o: o, key: t.key(o.Key), token: token}
	if id, ok := strings.CutPrefix(token, tokenCRC); ok {
		u.id, u.crc = id, true
	} else if id, ok := strings.CutPrefix(token, tokenPlain); ok {
		u.id = id
	}
	return u
}

// Open looks whether the object is there already, aborts uploads of the same key that an earlier Open or an earlier
// life left behind, and opens a new one.
func (t *Target) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	op := "open " + o.Key
	if err := t.valid(op, o.Key); err != nil {
		return nil, err
	}
	if o.Size == 0 {
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "there is nothing in it"}
	}
	key := t.key(o.Key)
	if t.debts.owed(key) {
		if err := t.debts.lock(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		defer t.debts.unlock()
	}
	// Two questions at once: the way to a store and back is what the beginning of a short part costs. Whether the bucket
	// is there, create will tell.
	var sweep error
	var wg sync.WaitGroup
	wg.Go(func() { sweep = t.sweep(ctx, op, key, "") })
	info, there, err := t.stat(ctx, op, key)
	wg.Wait()
	if err := cmp.Or(err, sweep); err != nil {
		return nil, err
	}
	if there {
		same, err := t.same(ctx, op, o, info, segment.Receipt{})
		if err != nil {
			return nil, err
		}
		if same {
			return t.upload(o, tokenThere), nil
		}
		if !ours(info, o) {
			return nil, t.foreign(op, key)
		}
	}
	id, crc, err := t.create(ctx, op, key, o)
	if err != nil {
		return nil, err
	}
	t.debts.use(key, id)
	if crc {
		return t.upload(o, tokenCRC+id), nil
	}
	return t.upload(o, tokenPlain+id), nil
}

// ours reports whether an object is a copy of the same segment, of whatever quality.
func ours(info minio.ObjectInfo, o segment.Object) bool {
	return info.UserMetadata[segmentMeta] == o.ID.String()
}

// same reports whether the object that was found is o, byte for byte.
func (t *Target) same(ctx context.Context, op string, o segment.Object, info minio.ObjectInfo, r segment.Receipt) (bool, error) {
	if o.Size < 0 || o.SHA256.IsZero() {
		return false, nil // we do not know yet what it should be
	}
	_, err := t.compare(ctx, op, o, info, r)
	if errors.Is(err, failure.ErrDamaged) {
		return false, nil
	}
	return err == nil, err
}

func (t *Target) foreign(op, key string) error {
	return &failure.Error{Op: op, Kind: failure.Permanent, Code: "another object is there already", Err: fs.ErrExist,
		Hint: fmt.Sprintf("s3://%s/%s exists and is not overwritten: move it away or use another --name.", t.cfg.Bucket, key)}
}

// Resume lists the parts that the store has.
func (t *Target) Resume(ctx context.Context, o segment.Object, token string) (uploader.Upload, []segment.Ack, error) {
	op := "resume " + o.Key
	if err := t.valid(op, o.Key); err != nil {
		return nil, nil, err
	}
	u := t.upload(o, token)
	if u.id != "" {
		acks, err := u.list(ctx, op)
		if errors.Is(err, failure.ErrAbsent) {
			u.sweep(ctx, op) // if it was completed, nobody else will look for its twin
		}
		return u, acks, err
	}
	info, err := t.head(ctx, op, u.key)
	if err != nil {
		return nil, nil, err
	}
	if token != tokenThere {
		return nil, nil, &failure.Error{Op: op, Code: "the token is of another kind of target", Err: failure.ErrAbsent}
	}
	same, err := t.same(ctx, op, o, info, segment.Receipt{})
	switch {
	case err != nil:
		return nil, nil, err
	case same:
		return u, nil, nil
	case ours(info, o):
		return nil, nil, &failure.Error{Op: op, Code: "the object is not what it was", Err: failure.ErrAbsent}
	}
	return nil, nil, t.foreign(op, u.key)
}

// list asks for the parts of the multipart upload.
func (u *upload) list(ctx context.Context, op string) ([]segment.Ack, error) {
	acks, marker := []segment.Ack{}, 0
	for {
		var res minio.ListObjectPartsResult
		n, err := u.t.call(ctx, op, func(ctx context.Context, c *minio.Core) (err error) {
			res, err = c.ListObjectParts(ctx, u.t.cfg.Bucket, u.key, u.id, marker, 1000)
			return err
		})
		if err != nil {
			return nil, u.lost(op, err, n)
		}
		if res.UploadID == "" && res.Key == "" {
			return nil, &failure.Error{Op: op, Code: "the answer is no listing of parts", Hint: "Does this endpoint speak S3?"}
		}
		for _, p := range res.ObjectParts {
			a := segment.Ack{Chunk: segment.Chunk{Index: p.PartNumber - 1, Offset: int64(p.PartNumber-1) * u.o.Chunk, Length: p.Size}, Tag: strings.Trim(p.ETag, `"`)}
			if p.PartNumber < 1 || p.Size <= 0 || p.Size > u.o.Chunk || u.o.Size >= 0 && a.Offset+a.Length > u.o.Size {
				continue // not of this plan; it will be put again
			}
			var listed bool
			if a.Sum, listed = parseCRC(p.ChecksumCRC32C); !listed {
				if err := u.localAck(ctx, &a); err != nil {
					return nil, fmt.Errorf("%s: %w", op, err)
				}
			}
			acks = append(acks, a)
		}
		if !res.IsTruncated || res.NextPartNumberMarker <= marker {
			return acks, nil
		}
		marker = res.NextPartNumberMarker
	}
}

// localAck fills in what a store does not list, from our own file: the CRC-32C, and whether the ETag is the MD5.
func (u *upload) localAck(ctx context.Context, a *segment.Ack) error {
	etag := a.Tag
	a.Tag += tagNone
	f := openLocal(u.o, a.Offset+a.Length)
	if f == nil {
		return nil
	}
	defer f.Close()
	s, err := sumOf(ctx, io.NewSectionReader(f, a.Offset, a.Length), a.Length, true)
	if err != nil {
		return err
	}
	a.Sum = s.crc
	if hex.EncodeToString(s.md5) == etag {
		a.Tag = etag + tagMD5
	}
	return nil
}

// lost says of a NoSuchUpload that there is no such upload any more. A bare 404 says nothing.
func (u *upload) lost(op string, err error, n *note) error {
	if n.status == http.StatusNotFound && code(err) == minio.NoSuchUpload {
		return &failure.Error{Op: op, Code: "404 NoSuchUpload", Err: failure.ErrAbsent}
	}
	return err
}

func (u *upload) Token() string { return u.token }

// Put sends one chunk as a part. The same index again replaces the part.
func (u *upload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	op := fmt.Sprintf("put chunk %d of %s", c.Index, u.o.Key)
	if c.Index < 0 || c.Index > maxParts || c.Length <= 0 {
		return segment.Ack{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "no such chunk in this upload"}
	}
	s, err := u.sums(ctx, c, body, u.id != "" && (!u.crc || !u.t.confirms.Load()))
	if err != nil {
		return segment.Ack{}, fmt.Errorf("%s: %w", op, err)
	}
	if u.token == tokenThere {
		return segment.Ack{Chunk: c, Tag: tagNone, Sum: s.crc}, nil
	}
	opts := minio.PutObjectPartOptions{DisableContentSha256: true, CustomHeader: http.Header{}}
	if u.crc {
		opts.CustomHeader.Set(crcHeader, base64CRC(s.crc))
	}
	if s.md5 != nil {
		opts.Md5Base64 = base64.StdEncoding.EncodeToString(s.md5)
	}
	var part minio.ObjectPart
	n, err := u.t.call(ctx, op, func(ctx context.Context, core *minio.Core) (err error) {
		part, err = core.PutObjectPart(ctx, u.t.cfg.Bucket, u.key, u.id, c.Index+1, stream{body}, c.Length, opts)
		return err
	})
	if err != nil {
		return segment.Ack{}, u.refused(ctx, op, u.lost(op, err, n), n)
	}
	return u.ack(op, c, part.ETag, part.ChecksumCRC32C, s)
}

// sums reads the chunk before it is sent, from the file if it can be found, else from the body.
func (u *upload) sums(ctx context.Context, c segment.Chunk, body io.ReadSeeker, withMD5 bool) (sums, error) {
	if !u.doubt.Load() {
		if f := openLocal(u.o, c.Offset+c.Length); f != nil {
			defer f.Close()
			if fi, err := f.Stat(); err == nil && !withMD5 {
				if crc, ok := u.t.cfg.Sums.Of(u.o.Local, fi, c); ok {
					return sums{crc: crc}, nil
				}
			}
			return sumOf(ctx, io.NewSectionReader(f, c.Offset, c.Length), c.Length, withMD5)
		}
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return sums{}, err
	}
	return sumOf(ctx, body, c.Length, withMD5)
}

// stream hides a Close that the body may have: minio-go would call it.
type stream struct{ io.ReadSeeker }

// WriteTo is how a mover gets at the body through what net/http puts around it. All others read.
func (s stream) WriteTo(w io.Writer) (int64, error) {
	m, ok := w.(*mover)
	if !ok {
		return io.Copy(w, struct{ io.Reader }{s.ReadSeeker})
	}
	body, ok := s.ReadSeeker.(uploader.FileBody)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return m.all(body)
}

// refused looks at a refusal of a body once more. A body that was damaged on its way gets any answer at all, also 403;
// only if the store refuses a sound request as well does a person have to look.
func (u *upload) refused(ctx context.Context, op string, err error, n *note) error {
	switch code(err) {
	case "BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "InvalidDigest":
		u.doubt.Store(true)
	}
	if n.status != http.StatusForbidden || failure.KindOf(err) != failure.NeedsHuman || ctx.Err() != nil {
		return err
	}
	_, serr := u.t.call(ctx, op, func(ctx context.Context, c *minio.Core) error {
		_, err := c.BucketExists(ctx, u.t.cfg.Bucket)
		return err
	})
	if failure.KindOf(serr) == failure.NeedsHuman {
		return err
	}
	return &failure.Error{Op: op, Kind: failure.Transient, Code: "403, but sound requests are taken", Err: err}
}

// standing asks what stands under the final name. It returns the object if it is o already; nothing if it may be
// written: it is not there, or it is our own earlier copy. Everything else is an error.
func (u *upload) standing(ctx context.Context, op string, o segment.Object, r segment.Receipt) (*minio.ObjectInfo, error) {
	info, err := u.t.head(ctx, op, u.key)
	if errors.Is(err, failure.ErrAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	same, err := u.t.same(ctx, op, o, info, r)
	switch {
	case err != nil:
		return nil, err
	case same:
		return &info, nil
	case ours(info, o):
		return nil, nil
	}
	return nil, u.t.foreign(op, u.key)
}

// ack makes an Ack of a good reply. crc is the checksum that the store says it has computed, "" if it says nothing.
func (u *upload) ack(op string, c segment.Chunk, etag, crc string, s sums) (segment.Ack, error) {
	if etag == "" {
		return segment.Ack{}, &failure.Error{Op: op, Code: "no ETag in the answer", Hint: "Does this endpoint speak S3?"}
	}
	a := segment.Ack{Chunk: c, Tag: etag, Sum: s.crc}
	switch {
	case crc == base64CRC(s.crc):
		u.t.confirms.Store(true)
		return a, nil
	case crc != "":
		u.doubt.Store(true)
		return segment.Ack{}, &failure.Error{Op: op, Code: "the store has other bytes (CRC-32C)", Err: failure.ErrDamaged}
	}
	a.Tag = etag + tagNone
	if hex.EncodeToString(s.md5) == etag {
		a.Tag = etag + tagMD5
	}
	return a, nil
}

// Commit completes the object. A lost answer to an earlier Commit is found by asking for the object.
func (u *upload) Commit(ctx context.Context, o segment.Object, acks []segment.Ack) (segment.Receipt, error) {
	op := "commit " + o.Key
	if o.Size <= 0 {
		return segment.Receipt{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "the size is not known"}
	}
	if u.token == tokenThere {
		return u.commitThere(ctx, op, o)
	}
	r, err := receipt(op, o, acks)
	if err != nil {
		return segment.Receipt{}, err
	}
	// The listing goes beside the completion: it finds what the one of Open did not know yet, and needs no answer.
	var wg sync.WaitGroup
	wg.Go(func() { u.sweep(ctx, op) })
	found, err := u.complete(ctx, op, o, acks, &r)
	wg.Wait()
	if err != nil {
		return segment.Receipt{}, err
	}
	if found {
		_ = u.t.abort(ctx, op, u.key, u.id) // it may still be open; if it stays so, it is owed
	}
	u.t.pay(ctx, payAtOnce, u.key)
	return r, nil
}

// sweep aborts uploads that the listing at Open did not show yet. What was asked for is done whatever comes of it; an
// abort that does not come through stays owed.
func (u *upload) sweep(ctx context.Context, op string) { _ = u.t.sweep(ctx, op, u.key, u.id) }

func (u *upload) commitThere(ctx context.Context, op string, o segment.Object) (segment.Receipt, error) {
	info, err := u.standing(ctx, op, o, segment.Receipt{})
	if err != nil {
		return segment.Receipt{}, err
	}
	if info == nil {
		return segment.Receipt{}, &failure.Error{Op: op, Code: "the object is not what it was", Err: failure.ErrAbsent}
	}
	return segment.Receipt{Key: o.Key, Size: o.Size, Tag: info.ETag, Sum: "sha256:" + o.SHA256.String()}, nil
}

// receipt says what the object will be, from what was sent: its CRC-32C and, where all ETags are MD5s of what was sent,
// its ETag; both composed of those of the parts.
func receipt(op string, o segment.Object, acks []segment.Ack) (segment.Receipt, error) {
	var end int64
	var crcs []uint32
	var md5s []string
	for i, a := range acks {
		if a.Index != i || a.Offset != end || i > 0 && i < len(acks)-1 && a.Length != acks[0].Length {
			return segment.Receipt{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: fmt.Sprintf("chunk %d is missing", i)}
		}
		end += a.Length
		crcs = append(crcs, a.Sum)
		if etag, ok := strings.CutSuffix(a.Tag, tagMD5); ok {
			md5s = append(md5s, etag)
		}
	}
	if end != o.Size {
		return segment.Receipt{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: fmt.Sprintf("chunks have %d of %d bytes", end, o.Size)}
	}
	r := segment.Receipt{Key: o.Key, Size: o.Size, Sum: "crc32c:" + composite(crcs)}
	if len(md5s) == len(acks) {
		r.Detail = "md5:" + compositeMD5(md5s)
	}
	return r, nil
}

// complete finishes the multipart upload. found: not by this call, the object stood there already.
func (u *upload) complete(ctx context.Context, op string, o segment.Object, acks []segment.Ack, r *segment.Receipt) (found bool, err error) {
	parts := make([]minio.CompletePart, len(acks))
	for i, a := range acks {
		etag, note, _ := strings.Cut(a.Tag, " ")
		parts[i] = minio.CompletePart{PartNumber: a.Index + 1, ETag: etag}
		if u.crc && note == "" {
			parts[i].ChecksumCRC32C = base64CRC(a.Sum)
		}
	}
	for overwrite := false; ; {
		always := u.t.always.Load()
		if always && !overwrite {
			if info, err := u.standing(ctx, op, o, *r); info != nil || err != nil {
				return true, fill(r, info, err)
			}
		}
		var opts minio.PutObjectOptions
		if !always && !overwrite {
			opts.SetMatchETagExcept("*")
		}
		var info minio.UploadInfo
		n, err := u.t.call(ctx, op, func(ctx context.Context, c *minio.Core) (err error) {
			info, err = c.CompleteMultipartUpload(ctx, u.t.cfg.Bucket, u.key, u.id, parts, opts)
			return err
		})
		switch {
		case err == nil:
			r.Tag = info.ETag
			return false, nil
		case n.status == http.StatusNotImplemented && !always:
			u.t.always.Store(true)
		case n.status == http.StatusPreconditionFailed && !overwrite:
			info, err := u.standing(ctx, op, o, *r)
			if info != nil || err != nil {
				return true, fill(r, info, err)
			}
			overwrite = true
		case code(err) == minio.NoSuchUpload:
			// Completed before, and the answer was lost; or aborted, or expired.
			info, serr := u.standing(ctx, op, o, *r)
			if info != nil || serr != nil {
				return true, fill(r, info, serr)
			}
			return false, &failure.Error{Op: op, Code: "404 NoSuchUpload", Err: failure.ErrAbsent}
		default:
			return false, err
		}
	}
}

// fill completes a receipt with what stands there.
func fill(r *segment.Receipt, info *minio.ObjectInfo, err error) error {
	if err == nil {
		r.Tag = info.ETag
	}
	return err
}

// Abort gives the parts back to the store, and those of a twin whose creation was not heard of.
func (u *upload) Abort(ctx context.Context) error {
	if u.id == "" {
		return nil
	}
	op := "abort " + u.o.Key
	if err := u.t.abort(ctx, op, u.key, u.id); err != nil {
		return err
	}
	u.sweep(ctx, op)
	return nil
}
