package s3

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
)

// Verify asks for the object and compares size and checksum; it downloads only where the store keeps no checksum that
// we can compare, or where Config.Reread wants it.
func (t *Target) Verify(ctx context.Context, o segment.Object, r segment.Receipt) (segment.Proof, error) {
	op := "verify " + o.Key
	if err := t.valid(op, o.Key); err != nil {
		return segment.Proof{}, err
	}
	if o.Size < 0 {
		return segment.Proof{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "the size is not known"}
	}
	info, err := t.head(ctx, op, t.key(o.Key))
	if err != nil {
		return segment.Proof{}, err
	}
	return t.compare(ctx, op, o, info, r)
}

// compare proves that the object of a HEAD is o, or says failure.ErrDamaged. An empty receipt (its answer was lost) is
// made up for from our own file.
func (t *Target) compare(ctx context.Context, op string, o segment.Object, info minio.ObjectInfo, r segment.Receipt) (segment.Proof, error) {
	bad := func(why string) (segment.Proof, error) {
		return segment.Proof{}, &failure.Error{Op: op, Code: why, Err: failure.ErrDamaged}
	}
	if info.Size != o.Size {
		return bad(fmt.Sprintf("the object has %d bytes, not %d", info.Size, o.Size))
	}
	if t.cfg.Reread {
		return t.readBack(ctx, op, o)
	}
	proof := segment.Proof{Size: info.Size, At: time.Now().UTC()}
	if got, parts, ok := parseComposite(info); ok {
		want, known, err := wantedCRC(ctx, o, r, parts)
		if err != nil {
			return segment.Proof{}, fmt.Errorf("%s: %w", op, err)
		}
		// A sum without a number of parts on an object that was made of parts: of the whole, or a composite whose
		// number was left out? If it is neither, the bytes have to tell.
		doubtful := parts == 0 && strings.Contains(info.ETag, "-")
		if c, ok := strings.CutPrefix(r.Sum, "crc32c:"); ok && doubtful && strings.HasPrefix(c, got+"-") {
			want, known = got, true
		}
		switch {
		case known && got == want:
			proof.Sum, proof.How = "crc32c:"+want, "size and CRC-32C by HEAD"
			if parts > 0 {
				proof.How = fmt.Sprintf("size and CRC-32C of %d parts by HEAD", parts)
			}
			return proof, nil
		case known && !doubtful:
			return bad("the CRC-32C of the object is another one")
		}
	}
	for _, known := range []string{r.Detail, r.Sum} {
		if want, ok := strings.CutPrefix(known, "md5:"); ok && want != "" && want == info.ETag {
			proof.Sum, proof.How = "md5:"+want, "size and MD5 by ETag"
			return proof, nil
		}
	}
	return t.readBack(ctx, op, o)
}

// parseComposite reads the CRC-32C of a HEAD. parts is 0 where it is that of the whole object. ok is false if there is
// none that we can compare.
func parseComposite(info minio.ObjectInfo) (sum string, parts int, ok bool) {
	if info.ChecksumCRC32C == "" {
		return "", 0, false
	}
	base, n, composed := strings.Cut(info.ChecksumCRC32C, "-")
	if !composed {
		return base, 0, true
	}
	if _, err := fmt.Sscanf(n, "%d", &parts); err != nil || parts < 1 {
		return "", 0, false
	}
	return info.ChecksumCRC32C, parts, true
}

// wantedCRC is what the CRC-32C should be: from the receipt if it has one of that kind, else from our own file.
func wantedCRC(ctx context.Context, o segment.Object, r segment.Receipt, parts int) (sum string, known bool, err error) {
	if c, ok := strings.CutPrefix(r.Sum, "crc32c:"); ok {
		if strings.Contains(c, "-") == (parts > 0) {
			return c, true, nil // also where the number of parts differs: then it is not what we sent
		}
	}
	chunk := o.Chunk
	switch {
	case parts == 0:
		chunk = max(o.Size, 1)
	case chunk <= 0 || (o.Size+chunk-1)/chunk != int64(parts):
		return "", false, nil
	}
	crcs, ok, err := localSums(ctx, o, chunk)
	if err != nil || !ok {
		return "", false, err
	}
	if parts == 0 {
		if len(crcs) == 0 {
			return base64CRC(0), true, nil
		}
		return base64CRC(crcs[0]), true, nil
	}
	return composite(crcs), true, nil
}

// readBack downloads the object and compares its SHA-256. A connection that breaks proves nothing.
func (t *Target) readBack(ctx context.Context, op string, o segment.Object) (segment.Proof, error) {
	if o.SHA256.IsZero() {
		return segment.Proof{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "the SHA-256 is not known"}
	}
	h := sha256.New()
	var got int64
	_, err := t.call(ctx, op, func(ctx context.Context, c *minio.Core) error {
		body, _, _, err := c.GetObject(ctx, t.cfg.Bucket, t.key(o.Key), minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		defer body.Close()
		bp := buffers.Get().(*[]byte)
		defer buffers.Put(bp)
		h.Reset()
		got, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.LimitReader(body, o.Size+1)}, *bp)
		return err
	})
	switch {
	case err != nil:
		return segment.Proof{}, err
	case got != o.Size:
		return segment.Proof{}, &failure.Error{Op: op, Code: fmt.Sprintf("%d bytes were read back, not %d", got, o.Size), Err: failure.ErrDamaged}
	case segment.Sum(h.Sum(nil)) != o.SHA256:
		return segment.Proof{}, &failure.Error{Op: op, Code: "the SHA-256 is another one", Err: failure.ErrDamaged}
	}
	return segment.Proof{Size: got, Sum: "sha256:" + o.SHA256.String(), How: "size and SHA-256 read back", At: time.Now().UTC()}, nil
}
