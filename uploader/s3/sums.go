package s3

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/liverec/liverec/pkg/segment"
)

const crcHeader = "x-amz-checksum-crc32c"

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	buffers    = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}
)

func crcOf(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// base64CRC is a CRC-32C as S3 writes it.
func base64CRC(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

func parseCRC(s string) (uint32, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

func base64MD5(p []byte) string {
	sum := md5.Sum(p)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// composite is S3's checksum of a multipart object: the CRC-32C of the parts' CRC-32Cs, and their number.
func composite(parts []uint32) string {
	var all []byte
	for _, p := range parts {
		all = binary.BigEndian.AppendUint32(all, p)
	}
	return fmt.Sprintf("%s-%d", base64CRC(crcOf(all)), len(parts))
}

// compositeMD5 is the ETag of a multipart object whose parts' ETags are MD5s, "" if one of them is none.
func compositeMD5(etags []string) string {
	h := md5.New()
	for _, e := range etags {
		b, err := hex.DecodeString(e)
		if err != nil || len(b) != md5.Size {
			return ""
		}
		h.Write(b)
	}
	return fmt.Sprintf("%x-%d", h.Sum(nil), len(etags))
}

// sums is what is known of a chunk's bytes before they are sent.
type sums struct {
	crc uint32
	md5 []byte // nil unless it was asked for
}

// sumOf reads n bytes.
func sumOf(ctx context.Context, r io.Reader, n int64, withMD5 bool) (sums, error) {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	var s sums
	var h hash.Hash
	if withMD5 {
		h = md5.New()
	}
	r = io.LimitReader(r, n)
	for {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		k, err := r.Read(*bp)
		s.crc = crc32.Update(s.crc, castagnoli, (*bp)[:k])
		if h != nil {
			h.Write((*bp)[:k])
		}
		n -= int64(k)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, err
		}
	}
	if n != 0 {
		return s, fmt.Errorf("the local file is %d bytes short: %w", n, io.ErrUnexpectedEOF)
	}
	if h != nil {
		s.md5 = h.Sum(nil)
	}
	return s, nil
}

// openLocal opens the segment's file beside the body that we are handed: reading the body for a checksum would count
// against the limit of bandwidth. The file may have lost its ".part" since the upload was opened. Nil: it is not there.
func openLocal(o segment.Object, end int64) *os.File {
	for _, name := range []string{o.Local, strings.TrimSuffix(o.Local, segment.PartSuffix)} {
		if name == "" {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() && fi.Size() >= end {
			return f
		}
		_ = f.Close()
	}
	return nil
}

// localSums reads the chunks of a sealed object from our own file. ok is false if it is not there any more.
func localSums(ctx context.Context, o segment.Object, chunk int64) (crcs []uint32, ok bool, err error) {
	f := openLocal(o, o.Size)
	if f == nil || chunk <= 0 {
		return nil, false, nil
	}
	defer f.Close()
	for off := int64(0); off < o.Size; off += chunk {
		n := min(chunk, o.Size-off)
		s, err := sumOf(ctx, io.NewSectionReader(f, off, n), n, false)
		if err != nil {
			return nil, false, err
		}
		crcs = append(crcs, s.crc)
	}
	return crcs, true, nil
}
