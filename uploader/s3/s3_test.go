package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

const key = "alice/P0001.flv"

// object makes a sealed local file of n bytes, sent in chunks of the fake's smallest size.
func object(t *testing.T, n int64, chunk int64) (segment.Object, []byte) {
	t.Helper()
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	local := filepath.Join(t.TempDir(), "P0001.flv")
	must(t, os.WriteFile(local, data, 0o644))
	return segment.Object{
		ID: segment.ID{Session: "01JTEST", Seq: 1}, Key: key, Local: local, Size: n, MaxSize: n, SHA256: sha256.Sum256(data), Chunk: chunk,
	}, data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func plan(o segment.Object) []segment.Chunk {
	var list []segment.Chunk
	for off := int64(0); off < o.Size; off += o.Chunk {
		list = append(list, segment.Chunk{Index: len(list), Offset: off, Length: min(o.Chunk, o.Size-off)})
	}
	return list
}

func section(data []byte, c segment.Chunk) io.ReadSeeker {
	return io.NewSectionReader(bytes.NewReader(data), c.Offset, c.Length)
}

// send takes an object from its opening to its receipt, the head last, without a second try anywhere.
func send(t *testing.T, target *Target, o segment.Object, data []byte) (uploader.Upload, []segment.Ack, segment.Receipt, error) {
	t.Helper()
	up, err := target.Open(t.Context(), o)
	if err != nil {
		return nil, nil, segment.Receipt{}, err
	}
	list := plan(o)
	acks := make([]segment.Ack, len(list))
	for _, c := range append(list[1:], list[0]) {
		if acks[c.Index], err = up.Put(t.Context(), c, section(data, c)); err != nil {
			return up, nil, segment.Receipt{}, err
		}
	}
	r, err := up.Commit(t.Context(), o, acks)
	return up, acks, r, err
}

func wantTrouble(t *testing.T, what string, err error, kind failure.Kind, hint string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s succeeded", what)
		return
	}
	if _, ok := errors.AsType[*failure.Error](err); !ok || failure.KindOf(err) != kind || !strings.Contains(failure.Hint(err), hint) {
		t.Errorf("%s: %v is %v with hint %q; want %v and %q", what, err, failure.KindOf(err), failure.Hint(err), kind, hint)
	}
	if errors.Is(err, failure.ErrAbsent) || errors.Is(err, failure.ErrDamaged) {
		t.Errorf("%s: \"could not ask\" became an answer (I8): %v", what, err)
	}
}

// The requests of one segment, in order.
func TestRequestsOfOneSegment(t *testing.T) {
	f := newFake(t)
	target := f.target(t)
	o, data := object(t, 2*f.part+10, f.part)
	_, _, r, err := send(t, target, o, data)
	must(t, err)
	p, err := target.Verify(t.Context(), o, r)
	must(t, err)
	if p.How != "size and CRC-32C of 3 parts by HEAD" || p.Size != o.Size || p.Sum != r.Sum {
		t.Errorf("proof %+v of receipt %+v", p, r)
	}
	want := []string{"HEAD object", "LIST uploads", "CREATE", "PUT part 2", "PUT part 3", "PUT part 1", "COMPLETE", "LIST uploads", "HEAD object"}
	got := f.requests()
	if len(got) == len(want) {
		slices.Sort(got[:2]) // at once
		slices.Sort(got[6:8])
	}
	if !slices.Equal(got, want) {
		t.Errorf("requests %q, want %q", got, want)
	}
}

func TestProofs(t *testing.T) {
	for _, c := range []struct {
		name string
		ways func(*fake)
		how  string
	}{
		{"checksums", func(*fake) {}, "size and CRC-32C of 3 parts by HEAD"},
		{"checksums, said only at the first part", func(f *fake) { f.discreet = true }, "size and CRC-32C of 3 parts by HEAD"},
		{"composites without a number", func(f *fake) { f.bare = true }, "size and CRC-32C by HEAD"},
		{"MD5 only", func(f *fake) { f.noChecksums = true }, "size and MD5 by ETag"},
		{"MD5 only, refuses the header", func(f *fake) { f.noChecksums, f.rejects = true, true }, "size and MD5 by ETag"},
		{"neither", func(f *fake) { f.noChecksums, f.encrypts = true, true }, "size and SHA-256 read back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			c.ways(f)
			o, data := object(t, 2*f.part+10, f.part)
			_, _, r, err := send(t, f.target(t), o, data)
			must(t, err)
			p, err := f.target(t).Verify(t.Context(), o, r)
			must(t, err)
			if p.How != c.how {
				t.Errorf("proof %+v, want %q", p, c.how)
			}
			// As the ledger has it when the answer to the commit was lost: the proof's sum is the receipt's.
			p2, err := f.target(t).Verify(t.Context(), o, segment.Receipt{Key: o.Key, Size: p.Size, Sum: p.Sum})
			if err != nil || p2.How != c.how {
				t.Errorf("proof from a found receipt %+v, %v", p2, err)
			}
			// Long after our own file has gone.
			gone := o
			gone.Local += ".gone"
			p3, err := f.target(t).Verify(t.Context(), gone, r)
			if err != nil || p3.How != c.how {
				t.Errorf("proof without the local file %+v, %v", p3, err)
			}
			wrong := r
			wrong.Sum, wrong.Detail = "crc32c:AAAAAA==-3", ""
			if c.how == "size and CRC-32C of 3 parts by HEAD" {
				if _, err := f.target(t).Verify(t.Context(), o, wrong); !errors.Is(err, failure.ErrDamaged) {
					t.Errorf("another checksum: %v", err)
				}
			}
		})
	}
}

// A store that keeps the CRC-32C of the whole is compared with our file while it is here, and read back later.
func TestProofByTheSumOfTheWhole(t *testing.T) {
	f := newFake(t)
	f.whole = true
	o, data := object(t, 2*f.part+10, f.part)
	_, _, r, err := send(t, f.target(t), o, data)
	must(t, err)
	if p, err := f.target(t).Verify(t.Context(), o, r); err != nil || p.How != "size and CRC-32C by HEAD" {
		t.Errorf("%+v, %v", p, err)
	}
	gone := o
	gone.Local += ".gone"
	if p, err := f.target(t).Verify(t.Context(), gone, r); err != nil || p.How != "size and SHA-256 read back" {
		t.Errorf("%+v, %v", p, err)
	}
	f.with(func() { f.objects["live/"+key].data[7] ^= 1 })
	for _, o := range []segment.Object{o, gone} {
		if _, err := f.target(t).Verify(t.Context(), o, r); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("a wrong byte: %v", err)
		}
	}
}

// What each answer means, at each call.
func TestTroubleSaysWhoCanHelp(t *testing.T) {
	retry := http.Header{"Retry-After": {"7"}}
	for _, c := range []struct {
		status int
		code   string
		header http.Header
		kind   failure.Kind
		hint   string
		after  time.Duration
	}{
		{403, "AccessDenied", nil, failure.NeedsHuman, "s3:PutObject", 0},
		{403, "InvalidAccessKeyId", nil, failure.NeedsHuman, "AWS_ACCESS_KEY_ID", 0},
		{403, "SignatureDoesNotMatch", nil, failure.NeedsHuman, "AWS_SECRET_ACCESS_KEY", 0},
		{403, "RequestTimeTooSkewed", http.Header{"Date": {time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat)}}, failure.NeedsHuman, "behind the store's", 0},
		{400, "ExpiredToken", nil, failure.NeedsHuman, "new credentials", 0},
		{404, "NoSuchBucket", nil, failure.NeedsHuman, "Create the bucket bucket", 0},
		{400, "KeyTooLongError", nil, failure.Permanent, "shorter", 0},
		{507, "", nil, failure.Transient, "full", 0},
		{503, "SlowDown", retry, failure.Throttled, "", 7 * time.Second},
		{503, "", retry, failure.Throttled, "", 7 * time.Second},
		{503, "ServiceUnavailable", nil, failure.Transient, "", 0},
		{429, "", retry, failure.Throttled, "", 7 * time.Second},
		{500, "InternalError", nil, failure.Transient, "", 0},
		{502, "", nil, failure.Transient, "", 0},
		{400, "RequestTimeout", nil, failure.Transient, "", 0},
		{400, "BadDigest", nil, failure.Transient, "", 0},
		{403, "XAmzContentChecksumMismatch", nil, failure.Transient, "", 0},
		{407, "", nil, failure.NeedsHuman, "proxy", 0},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.code), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			target := f.target(t)
			o, data := object(t, f.part, f.part)
			up, err := target.Open(t.Context(), o)
			must(t, err)
			f.behave(func(string, int) fate { return fate{status: c.status, code: c.code, header: c.header} })
			check := func(what string, err error) {
				t.Helper()
				wantTrouble(t, what, err, c.kind, c.hint)
				if failure.RetryAfter(err) != c.after {
					t.Errorf("%s: retry after %v, want %v", what, failure.RetryAfter(err), c.after)
				}
			}
			check("check", target.Check(t.Context()))
			check("keep", target.Keep(t.Context(), "m.json", []byte("{}")))
			_, err = up.Put(t.Context(), plan(o)[0], section(data, plan(o)[0]))
			check("put", err)
			if c.code != "NoSuchBucket" && c.code != "" {
				_, err = up.Commit(t.Context(), o, []segment.Ack{{Chunk: plan(o)[0]}})
				check("commit", err)
			}
			_, _, err = target.Resume(t.Context(), o, up.Token())
			check("resume", err)
			if c.status == 404 || c.code == "" {
				return
			}
			// A HEAD has no body, so its refusals are told by their status; here only that they are no answers.
			if _, err := target.Verify(t.Context(), o, segment.Receipt{}); err == nil || errors.Is(err, failure.ErrAbsent) || errors.Is(err, failure.ErrDamaged) {
				t.Errorf("verify: %v", err)
			}
		})
	}
}

// A page from somebody who is no S3 is no answer at all.
func TestI8_AnybodysPageIsNoAnswer(t *testing.T) {
	for _, status := range []int{200, 404, 500} {
		f := newFake(t)
		target := f.target(t)
		o, data := object(t, f.part, f.part)
		up, err := target.Open(t.Context(), o)
		must(t, err)
		f.behave(func(string, int) fate { return fate{html: true, status: status} })
		for what, err := range map[string]error{
			"check":  target.Check(t.Context()),
			"verify": func() error { _, err := target.Verify(t.Context(), o, segment.Receipt{}); return err }(),
			"recall": func() error { _, err := target.Recall(t.Context(), "m.json"); return err }(),
			"resume": func() error { _, _, err := target.Resume(t.Context(), o, up.Token()); return err }(),
			"put":    func() error { _, err := up.Put(t.Context(), plan(o)[0], section(data, plan(o)[0])); return err }(),
			"commit": func() error {
				_, err := up.Commit(t.Context(), o, []segment.Ack{{Chunk: plan(o)[0]}})
				return err
			}(),
		} {
			switch {
			case what == "recall" && status == 200: // any page is a small file; control will not take it for its own
			case err == nil:
				t.Errorf("%d: %s succeeded", status, what)
			case errors.Is(err, failure.ErrAbsent), errors.Is(err, failure.ErrDamaged):
				t.Errorf("%d: %s became an answer: %v", status, what, err)
			}
		}
	}
}

// A body that was damaged on its way may get any refusal; a sound request decides whose trouble it is.
func TestRefusalOfADamagedBody(t *testing.T) {
	f := newFake(t)
	target := f.target(t)
	o, data := object(t, f.part, f.part)
	up, err := target.Open(t.Context(), o)
	must(t, err)
	c := plan(o)[0]
	for _, code := range []string{"AccessDenied", "SignatureDoesNotMatch", ""} {
		f.behave(func(what string, nth int) fate {
			if what == "PUT part 1" {
				return fate{status: 403, code: code}
			}
			return fate{}
		})
		_, err = up.Put(t.Context(), c, section(data, c))
		wantTrouble(t, "put, 403 "+code, err, failure.Transient, "")
	}
	f.behave(func(string, int) fate { return fate{status: 403, code: "AccessDenied"} })
	_, err = up.Put(t.Context(), c, section(data, c))
	wantTrouble(t, "put, everything refused", err, failure.NeedsHuman, "s3:PutObject")
}

// Whatever happens to a part on its way, the same part again is taken, and the object is right.
func TestPartSurvivesTheWay(t *testing.T) {
	for name, ft := range map[string]fate{
		"wrong byte": {flip: true}, "closed in mid-body": {cut: true}, "answer lost": {lost: true}, "slow down": {status: 503, code: "SlowDown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			target := f.target(t)
			o, data := object(t, 2*f.part+1, f.part)
			f.behave(func(what string, nth int) fate {
				if strings.HasPrefix(what, "PUT part") && nth == 1 {
					return ft
				}
				return fate{}
			})
			up, err := target.Open(t.Context(), o)
			must(t, err)
			var acks []segment.Ack
			for _, c := range plan(o) {
				if _, err := up.Put(t.Context(), c, section(data, c)); err == nil {
					t.Fatalf("chunk %d was acknowledged", c.Index)
				}
				a, err := up.Put(t.Context(), c, section(data, c))
				must(t, err)
				acks = append(acks, a)
			}
			r, err := up.Commit(t.Context(), o, acks)
			must(t, err)
			if _, err := target.Verify(t.Context(), o, r); err != nil {
				t.Error(err)
			}
			if got := f.get(key); !bytes.Equal(got.data, data) {
				t.Error("the object is not what was sent")
			}
		})
	}
}

// The local file is only read beside the body as long as both are the same.
func TestLocalFileThatDiffers(t *testing.T) {
	f := newFake(t)
	target := f.target(t)
	o, data := object(t, f.part, f.part)
	must(t, os.WriteFile(o.Local, make([]byte, o.Size), 0o644))
	up, err := target.Open(t.Context(), o)
	must(t, err)
	c := plan(o)[0]
	if _, err := up.Put(t.Context(), c, section(data, c)); err == nil {
		t.Fatal("a checksum of other bytes was taken")
	}
	if _, err := up.Put(t.Context(), c, section(data, c)); err != nil {
		t.Errorf("second try: %v", err)
	}
}

// TestRememberedSums: a chunk whose sum is known is sent as it is; where the memory is wrong the store refuses it, and
// the next try looks at the body.
func TestRememberedSums(t *testing.T) {
	const block = 64 << 10
	for _, wrong := range []bool{false, true} {
		t.Run(fmt.Sprint("wrong ", wrong), func(t *testing.T) {
			f := newFake(t)
			o, data := object(t, 2*block+100, block)
			info, err := os.Stat(o.Local)
			must(t, err)
			var sums uploader.Sums
			w, keep := sums.Learn(o.Local, info)
			seen := bytes.Clone(data)
			if wrong {
				seen[block+1] ^= 1
			}
			w.Write(seen)
			keep()
			target := f.target(t, func(c *Config) { c.part, c.Sums = block, &sums })
			must(t, target.Check(t.Context())) // from now on it is known that the store confirms sums
			up, err := target.Open(t.Context(), o)
			must(t, err)
			var acks []segment.Ack
			for _, c := range plan(o) {
				a, err := up.Put(t.Context(), c, section(data, c))
				if wrong && c.Index == 1 {
					wantTrouble(t, "a chunk with a wrong sum", err, failure.Transient, "")
					a, err = up.Put(t.Context(), c, section(data, c))
				}
				must(t, err)
				acks = append(acks, a)
			}
			r, err := up.Commit(t.Context(), o, acks)
			must(t, err)
			_, err = target.Verify(t.Context(), o, r)
			must(t, err)
		})
	}
}

func TestCommitWithALostAnswer(t *testing.T) {
	for name, ft := range map[string]fate{"connection lost": {lost: true}, "200 with an error inside": {inside: true}, "answer breaks off": {short: true}} {
		for _, condition := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, condition %v", name, condition), func(t *testing.T) {
				t.Parallel()
				f := newFake(t)
				f.rejects, f.noChecksums = !condition, !condition
				target := f.target(t)
				o, data := object(t, f.part+1, f.part)
				f.behave(func(what string, nth int) fate {
					if what == "COMPLETE" && (condition && nth == 1 || !condition && nth == 2) {
						return ft
					}
					return fate{}
				})
				up, acks, _, err := send(t, target, o, data)
				_ = acks
				wantTrouble(t, "commit", err, failure.Transient, "")
				// In the same process, as the decorators retry, and in another one, as transport does.
				if p, err := f.target(t).Verify(t.Context(), o, segment.Receipt{}); err != nil || p.Size != o.Size {
					t.Errorf("verify: %+v, %v", p, err)
				}
				again, _, err := f.target(t).Resume(t.Context(), o, up.Token())
				if !errors.Is(err, failure.ErrAbsent) {
					t.Errorf("resume: %v, %v", again, err)
				}
			})
		}
	}
}

func TestCommitTwiceInOneProcess(t *testing.T) {
	f := newFake(t)
	target := f.target(t)
	o, data := object(t, f.part+1, f.part)
	up, acks, r, err := send(t, target, o, data)
	must(t, err)
	again, err := up.Commit(t.Context(), o, acks)
	if err != nil || again != r {
		t.Errorf("%+v, then %+v, %v", r, again, err)
	}
	f.put(key, nil)
	if _, err := up.Commit(t.Context(), o, acks); !errors.Is(err, failure.ErrAbsent) {
		t.Errorf("commit of an upload that is gone: %v", err)
	}
}

// No upload is left behind, also where its creation was never heard of and the store lists it late.
func TestLostCreationIsSwept(t *testing.T) {
	for _, hide := range []int{0, 1} {
		f := newFake(t)
		o, data := object(t, f.part+1, f.part)
		f.behave(func(what string, nth int) fate { return fate{lost: what == "CREATE" && nth == 1} })
		if _, err := f.target(t).Open(t.Context(), o); err == nil {
			t.Fatal("the answer was not lost")
		}
		// Neighbours whose names begin alike, and a stranger's, are none of our business.
		f.with(func() {
			f.uploads["neighbour"] = &fakeUpload{key: "live/" + key + ".txt", parts: map[int]*fakePart{}}
			f.hideUploads = hide
		})
		_, _, r, err := send(t, f.target(t), o, data)
		must(t, err)
		if _, err := f.target(t).Verify(t.Context(), o, r); err != nil {
			t.Error(err)
		}
		f.with(func() {
			if len(f.uploads) != 1 || f.uploads["neighbour"] == nil {
				t.Errorf("hidden from %d listings: %d uploads are left", hide, len(f.uploads))
			}
		})
	}
}

func TestStoreThatListsNoUploads(t *testing.T) {
	f := newFake(t)
	f.noListing = true
	target := f.target(t)
	must(t, target.Check(t.Context()))
	o, data := object(t, f.part+1, f.part)
	if _, _, _, err := send(t, target, o, data); err != nil {
		t.Error(err)
	}
	if n := f.count("LIST uploads"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// Somebody's object stays as it is, wherever we meet it.
func TestNeverOverwrites(t *testing.T) {
	for _, rejects := range []bool{false, true} {
		for _, when := range []string{"before the opening", "before the commit"} {
			t.Run(fmt.Sprintf("%s, store without conditions %v", when, rejects), func(t *testing.T) {
				f := newFake(t)
				f.rejects, f.noChecksums = rejects, rejects
				target := f.target(t)
				theirs := &fakeObject{data: []byte("theirs"), etag: "x"}
				if when == "before the opening" {
					f.put(key, theirs)
				} else {
					f.behave(func(what string, nth int) fate {
						if what == "PUT part 1" {
							f.objects["live/"+key] = theirs // the fake is locked here
						}
						return fate{}
					})
				}
				o, data := object(t, f.part+1, f.part)
				_, _, _, err := send(t, target, o, data)
				if failure.KindOf(err) != failure.Permanent || !strings.Contains(failure.Hint(err), "s3://bucket/live/"+key) {
					t.Errorf("%v, hint %q", err, failure.Hint(err))
				}
				if f.get(key) != theirs {
					t.Error("it was overwritten")
				}
				growing := o
				growing.Size, growing.SHA256 = -1, segment.Sum{}
				if _, err := target.Open(t.Context(), growing); failure.KindOf(err) != failure.Permanent {
					t.Errorf("open of a growing segment: %v", err)
				}
			})
		}
	}
}

// The same bytes under that name are as good as ours, whoever put them there.
func TestTheSameObjectIsThere(t *testing.T) {
	f := newFake(t)
	o, data := object(t, 2*f.part+1, f.part)
	f.put(key, &fakeObject{data: data, etag: "not an MD5"})
	up, acks, r, err := send(t, f.target(t), o, data)
	must(t, err)
	if n := f.count("CREATE"); n != 0 {
		t.Errorf("%d uploads were opened", n)
	}
	if p, err := f.target(t).Verify(t.Context(), o, r); err != nil || p.How != "size and SHA-256 read back" {
		t.Errorf("proof %+v, %v", p, err)
	}
	again, listed, err := f.target(t).Resume(t.Context(), o, up.Token())
	if err != nil || listed != nil {
		t.Fatalf("resume: %v, %v", listed, err)
	}
	if _, err := again.Commit(t.Context(), o, acks); err != nil {
		t.Error(err)
	}
	f.with(func() { f.objects["live/"+key].data[0] ^= 1 })
	if _, err := again.Commit(t.Context(), o, acks); failure.KindOf(err) != failure.Permanent {
		t.Errorf("commit of what became somebody else's: %v", err)
	}
}

// A store that stores a wrong byte and says that all is well is found by reading back, and its copy replaced.
func TestWrongByteStored(t *testing.T) {
	f := newFake(t)
	target := f.target(t, func(c *Config) { c.Reread = true })
	o, data := object(t, f.part+1, f.part)
	f.behave(func(what string, nth int) fate { return fate{wrongStore: what == "PUT part 2" && nth == 1} })
	_, _, r, err := send(t, target, o, data)
	must(t, err)
	if _, err := target.Verify(t.Context(), o, r); !errors.Is(err, failure.ErrDamaged) {
		t.Fatalf("verify: %v", err)
	}
	_, _, r, err = send(t, target, o, data)
	must(t, err)
	if _, err := target.Verify(t.Context(), o, r); err != nil {
		t.Error(err)
	}
}

// A download that breaks off proves nothing, neither good nor bad.
func TestI8_BrokenDownloadIsNoDamage(t *testing.T) {
	f := newFake(t)
	target := f.target(t, func(c *Config) { c.Reread = true })
	o, data := object(t, f.part+1, f.part)
	_, _, r, err := send(t, target, o, data)
	must(t, err)
	must(t, target.Keep(t.Context(), "m.json", []byte(`{"format":"liverec/1"}`)))
	f.behave(func(what string, nth int) fate { return fate{short: what == "GET object"} })
	_, err = target.Verify(t.Context(), o, r)
	wantTrouble(t, "verify", err, failure.Transient, "")
	got, err := target.Recall(t.Context(), "m.json")
	if err == nil {
		t.Errorf("recalled %q", got)
	}
}

func TestAbsentNeedsABucket(t *testing.T) {
	f := newFake(t)
	o, _ := object(t, f.part, f.part)
	target := f.target(t, func(c *Config) { c.Bucket = "another" })
	_, err := target.Verify(t.Context(), o, segment.Receipt{})
	wantTrouble(t, "verify in a bucket that is gone", err, failure.NeedsHuman, "Create the bucket another")
	_, err = target.Recall(t.Context(), "m.json")
	wantTrouble(t, "recall from a bucket that is gone", err, failure.NeedsHuman, "Create the bucket another")
	if _, err := f.target(t).Recall(t.Context(), "m.json"); !errors.Is(err, failure.ErrAbsent) {
		t.Errorf("recall of nothing: %v", err)
	}
}

// Resume knows what a listing says and fills in what it does not say.
func TestResumeFromListing(t *testing.T) {
	for _, ways := range []func(*fake){func(*fake) {}, func(f *fake) { f.page = 1 }, func(f *fake) { f.noChecksums = true }} {
		f := newFake(t)
		ways(f)
		o, data := object(t, 3*f.part+1, f.part)
		up, err := f.target(t).Open(t.Context(), o)
		must(t, err)
		want := map[int]segment.Ack{}
		for _, c := range plan(o)[1:] {
			a, err := up.Put(t.Context(), c, section(data, c))
			must(t, err)
			want[c.Index] = a
		}
		again, acks, err := f.target(t).Resume(t.Context(), o, up.Token())
		must(t, err)
		if len(acks) != 3 {
			t.Fatalf("%d acks", len(acks))
		}
		for _, a := range acks {
			if a != want[a.Index] {
				t.Errorf("listed as %+v, acknowledged as %+v", a, want[a.Index])
			}
		}
		// A part of another size is from another plan.
		f.with(func() {
			f.uploads[strings.SplitN(up.Token(), ":", 2)[1]].parts[1] = &fakePart{data: make([]byte, f.part+1), etag: "x"}
		})
		if _, acks, err = f.target(t).Resume(t.Context(), o, up.Token()); err != nil || len(acks) != 3 {
			t.Errorf("%d acks, %v", len(acks), err)
		}
		must(t, again.Abort(t.Context()))
		if _, _, err := f.target(t).Resume(t.Context(), o, up.Token()); !errors.Is(err, failure.ErrAbsent) {
			t.Errorf("resume of an aborted upload: %v", err)
		}
		c := plan(o)[0]
		if _, err := again.Put(t.Context(), c, section(data, c)); !errors.Is(err, failure.ErrAbsent) {
			t.Errorf("put into an aborted upload: %v", err)
		}
	}
}

// A store in a region of its own names it, and is asked there.
func TestRegionIsLearnt(t *testing.T) {
	var region atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "/garage/s3/") {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong region</Message><Region>garage</Region></Error>`)
			return
		}
		region.Store("garage")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `<Error><Code>NoSuchBucket</Code></Error>`)
	}))
	defer srv.Close()
	keys := env("AWS_ACCESS_KEY_ID", "AK", "AWS_SECRET_ACCESS_KEY", "SK")
	target, err := New(Config{Bucket: "bucket", Endpoint: srv.URL, Getenv: keys})
	must(t, err)
	defer target.Close()
	wantTrouble(t, "check", target.Check(t.Context()), failure.NeedsHuman, "Create the bucket")
	if region.Load() != "garage" {
		t.Error("it was not asked in its own region")
	}
	fixed, err := New(Config{Bucket: "bucket", Endpoint: srv.URL, Region: "eu-central-1", Getenv: keys})
	must(t, err)
	defer fixed.Close()
	wantTrouble(t, "check with a region that was given", fixed.Check(t.Context()), failure.NeedsHuman, "region=garage")
}

func TestRegionFromEnvironment(t *testing.T) {
	home := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(home, ".aws"), 0o755))
	must(t, os.WriteFile(filepath.Join(home, ".aws", "config"), []byte("[default]\nregion = eu-west-1\n[profile x]\nregion=eu-west-3\n"), 0o644))
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, ""},
		{[]string{"AWS_REGION", "a", "AWS_DEFAULT_REGION", "b"}, "a"},
		{[]string{"AWS_DEFAULT_REGION", "b", "HOME", home}, "b"},
		{[]string{"HOME", home}, "eu-west-1"},
		{[]string{"HOME", home, "AWS_PROFILE", "x"}, "eu-west-3"},
		{[]string{"HOME", home, "AWS_PROFILE", "y"}, ""},
	} {
		if got := regionFromEnv(env(c.env...)); got != c.want {
			t.Errorf("%v: %q, want %q", c.env, got, c.want)
		}
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(text), 0o600))
		return p
	}
	shared := write(".aws/credentials", "[default]\naws_access_key_id = D\naws_secret_access_key = d\n[x]\naws_access_key_id = X\naws_secret_access_key = x\n[half]\naws_access_key_id = H\n")
	for _, c := range []struct {
		name string
		env  []string
		want string // access key
		hint string
		code string
	}{
		{"environment", []string{"AWS_ACCESS_KEY_ID", "E", "AWS_SECRET_ACCESS_KEY", "e", "HOME", dir}, "E", "", ""},
		{"file", []string{"HOME", dir}, "D", "", ""},
		{"profile", []string{"HOME", dir, "AWS_PROFILE", "x"}, "X", "", ""},
		{"named file", []string{"AWS_SHARED_CREDENTIALS_FILE", shared}, "D", "", ""},
		{"nothing", nil, "", "AWS_SECRET_ACCESS_KEY", "no credentials"},
		{"half of it", []string{"AWS_ACCESS_KEY_ID", "E"}, "", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY is not"},
		{"other half", []string{"AWS_SECRET_ACCESS_KEY", "E"}, "", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID is not"},
		{"no such profile", []string{"HOME", dir, "AWS_PROFILE", "y"}, "", "AWS_PROFILE", "profile y"},
		{"half a profile", []string{"HOME", dir, "AWS_PROFILE", "half"}, "", "AWS_PROFILE", "profile half"},
		{"no such file", []string{"AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "gone")}, "", "AWS_SHARED_CREDENTIALS_FILE", "gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			target, err := New(Config{Bucket: "bucket", Endpoint: "http://127.0.0.1:1", Getenv: env(c.env...)})
			must(t, err)
			defer target.Close()
			v, err := target.creds.GetWithContext(nil)
			if c.want != "" {
				if err != nil || v.AccessKeyID != c.want {
					t.Errorf("%q, %v", v.AccessKeyID, err)
				}
				return
			}
			err = target.Check(t.Context())
			wantTrouble(t, "check", err, failure.NeedsHuman, c.hint)
			if err == nil || !strings.Contains(err.Error(), c.code) {
				t.Errorf("%v does not say %q", err, c.code)
			}
		})
	}
}

// Keys that were changed in the file are taken after a refusal, without a new start.
func TestCredentialsAreReadAgain(t *testing.T) {
	f := newFake(t)
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(id string) {
		must(t, os.WriteFile(file, []byte("[default]\naws_access_key_id = "+id+"\naws_secret_access_key = s\n"), 0o600))
	}
	write("OLD")
	target := f.target(t, func(c *Config) { c.Getenv = env("AWS_SHARED_CREDENTIALS_FILE", file) })
	if err := target.Check(t.Context()); failure.KindOf(err) != failure.NeedsHuman {
		t.Fatalf("check with old keys: %v", err)
	}
	write("AK")
	target.creds.Expire() // the fake says AccessDenied, real stores InvalidAccessKeyId
	must(t, target.Check(t.Context()))
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	keys := env("AWS_ACCESS_KEY_ID", "AK", "AWS_SECRET_ACCESS_KEY", "SK")
	strange, err := New(Config{Bucket: "bucket", Endpoint: srv.URL, Getenv: keys})
	must(t, err)
	defer strange.Close()
	wantTrouble(t, "a certificate that nobody signed", strange.Check(t.Context()), failure.NeedsHuman, "certificate")
	plain := newFake(t)
	wrong := plain.target(t, func(c *Config) { c.Endpoint = strings.Replace(c.Endpoint, "http:", "https:", 1) })
	wantTrouble(t, "https to a port that speaks http", wrong.Check(t.Context()), failure.NeedsHuman, "http://")
}

func TestTransportKeepsTheProxy(t *testing.T) {
	tr := newTransport()
	if tr.Proxy == nil {
		t.Fatal("the proxy of the environment is not used")
	}
	if tr.ResponseHeaderTimeout == 0 || tr.TLSHandshakeTimeout == 0 {
		t.Error("a silent server would be waited for for ever")
	}
}

func TestCheckLeavesNothing(t *testing.T) {
	f := newFake(t)
	must(t, f.target(t).Check(t.Context()))
	f.with(func() {
		if len(f.uploads)+len(f.objects) != 0 {
			t.Errorf("%d uploads, %d objects", len(f.uploads), len(f.objects))
		}
	})
	f.behave(func(what string, nth int) fate {
		if what == "ABORT" {
			return fate{status: 403, code: "AccessDenied"}
		}
		return fate{}
	})
	wantTrouble(t, "check without the right to abort", f.target(t).Check(t.Context()), failure.NeedsHuman, "s3:AbortMultipartUpload")
}

// stuck is a body that waits in the middle.
type stuck struct {
	io.ReadSeeker
	at, n int64
	wait  <-chan struct{}
	there chan<- struct{}
}

func (s *stuck) Read(p []byte) (int, error) {
	if s.n >= s.at {
		select {
		case s.there <- struct{}{}:
		default:
		}
		<-s.wait
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.ReadSeeker.Read(p[:min(len(p), 1000)])
	s.n += int64(n)
	return n, err
}

func TestPutStopsWithItsContext(t *testing.T) {
	f := newFake(t)
	target := f.target(t)
	o, data := object(t, f.part, f.part)
	up, err := target.Open(t.Context(), o)
	must(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	over, there := make(chan struct{}), make(chan struct{}, 1)
	why := errors.New("no byte moved for 30 s")
	done := make(chan error, 1)
	go func() {
		c := plan(o)[0]
		_, err := up.Put(ctx, c, &stuck{section(data, c), 3000, 0, over, there})
		done <- err
	}()
	<-there
	cancel(why)
	close(over)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("%v does not say why", err)
	}
}

func TestRetryAfter(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		header http.Header
		want   time.Duration
	}{
		{nil, 0},
		{http.Header{"Retry-After": {"3"}}, 3 * time.Second},
		{http.Header{"Retry-After": {" 0.5 "}}, 500 * time.Millisecond},
		{http.Header{"Retry-After": {"-3"}}, 0},
		{http.Header{"Retry-After": {"1e300"}}, 0},
		{http.Header{"Retry-After": {"NaN"}}, 0},
		{http.Header{"Retry-After": {"soon"}}, 0},
		{http.Header{"Retry-After": {at.Add(time.Minute).Format(http.TimeFormat)}, "Date": {at.Format(http.TimeFormat)}}, time.Minute},
		{http.Header{"Retry-After": {at.Format(http.TimeFormat)}, "Date": {at.Add(time.Minute).Format(http.TimeFormat)}}, 0},
	} {
		if got := retryAfter(&note{header: c.header}); got != c.want {
			t.Errorf("%v: %v, want %v", c.header, got, c.want)
		}
	}
}

// The composites are those of S3: checked against what a real store answered.
func TestComposites(t *testing.T) {
	if got := compositeMD5([]string{"d41d8cd98f00b204e9800998ecf8427e"}); got != "59adb24ef3cdbe0297f05b395827453f-1" {
		t.Error(got)
	}
	if got := compositeMD5([]string{"no md5"}); got != "" {
		t.Error(got)
	}
	if got := base64CRC(crcOf([]byte("123456789"))); got != "4waSgw==" { // the check value of CRC-32C is e3069283
		t.Error(got)
	}
}

func TestNamesThatAreNone(t *testing.T) {
	f := newFake(t)
	target := f.target(t)
	for _, k := range []string{"", "/a", "../a", "a//b", "a/../b", "a/", "\xff", strings.Repeat("a", 1025)} {
		if err := target.Keep(t.Context(), k, nil); failure.KindOf(err) != failure.Permanent {
			t.Errorf("%q: %v", k, err)
		}
	}
	if _, err := New(Config{Bucket: "bucket", Endpoint: "http://host/path"}); err == nil {
		t.Error("an endpoint with a path was taken")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no bucket was taken")
	}
}

// What a real store keeps is what our own arithmetic says.
func TestVersityGWProof(t *testing.T) {
	t.Parallel()
	endpoint, _ := versitygw(t)
	target := realTarget(t, endpoint)
	must(t, target.Check(t.Context()))
	o, data := object(t, minPart+3, minPart)
	_, _, r, err := send(t, target, o, data)
	must(t, err)
	p, err := target.Verify(t.Context(), o, r)
	if err != nil || p.How != "size and CRC-32C of 2 parts by HEAD" || p.Sum != r.Sum {
		t.Errorf("proof %+v of receipt %+v: %v", p, r, err)
	}
	if p, err := realTarget(t, endpoint, func(c *Config) { c.Reread = true }).Verify(t.Context(), o, r); err != nil || p.How != "size and SHA-256 read back" {
		t.Errorf("proof %+v, %v", p, err)
	}
	wrong := realTarget(t, endpoint, func(c *Config) { c.Bucket = "nobody" })
	wantTrouble(t, "no such bucket", wrong.Check(t.Context()), failure.NeedsHuman, "Create the bucket nobody")
	badKey := realTarget(t, endpoint, func(c *Config) { c.Getenv = env("AWS_ACCESS_KEY_ID", "AK", "AWS_SECRET_ACCESS_KEY", "wrong") })
	wantTrouble(t, "wrong secret", badKey.Check(t.Context()), failure.NeedsHuman, "AWS_SECRET_ACCESS_KEY")
	nobody := realTarget(t, endpoint, func(c *Config) { c.Getenv = env("AWS_ACCESS_KEY_ID", "XX", "AWS_SECRET_ACCESS_KEY", "SK") })
	wantTrouble(t, "wrong key", nobody.Check(t.Context()), failure.NeedsHuman, "AWS_ACCESS_KEY_ID")
}
