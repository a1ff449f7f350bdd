package web

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// packet is about what one network packet holds; less is not worth compressing.
const packet = 1400

var zippers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a good one
	return z
}}

// takesGzip reads Accept-Encoding.
func takesGzip(r *http.Request) bool {
	for e := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(e), ";")
		if name = strings.ToLower(strings.TrimSpace(name)); name != "gzip" && name != "*" {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(q), "q="), 64)
		return err != nil || v > 0
	}
	return false
}

// writeJSON answers with v: with an ETag, 304 to whoever has it, compressed if that is worth it.
func (s *Server) writeJSON(w http.ResponseWriter, r *http.Request, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.writeError(w, r, fmt.Errorf("write the answer: %w", err))
		return
	}
	s.writeBytes(w, r, "application/json", append(body, '\n'))
}

func (s *Server) writeBytes(w http.ResponseWriter, r *http.Request, kind string, body []byte) {
	h := w.Header()
	tag := fmt.Sprintf(`W/"%016x"`, xxhash.Sum64(body))
	h.Set("Etag", tag)
	h.Set("Cache-Control", "private, no-cache") // may be kept, is asked about each time
	h.Set("Vary", "Accept-Encoding, Authorization, Cookie")
	for known := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if known = strings.TrimSpace(known); known == tag || "W/"+known == tag || known == "*" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Type", kind)
	if len(body) > packet && takesGzip(r) {
		var b bytes.Buffer
		z := zippers.Get().(*gzip.Writer)
		z.Reset(&b)
		_, _ = z.Write(body) // a buffer takes everything
		_ = z.Close()
		zippers.Put(z)
		h.Set("Content-Encoding", "gzip")
		body = b.Bytes()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a reader that went away is no event
}

// writeError answers with what a View or a Commander said, and logs what is not the client's doing.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	t := troubleOf(err)
	if t.status == http.StatusInternalServerError && r.Context().Err() == nil {
		s.log.Error().Err(err).Str("method", r.Method).Str("path", r.URL.Path).Msg("a request could not be answered")
	}
	writeTrouble(w, t)
}

// compress compresses the text that next writes.
func compress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !takesGzip(r) || r.Method == http.MethodHead || r.Header.Get("Range") != "" {
			next.ServeHTTP(w, r)
			return
		}
		z := &zipped{ResponseWriter: w}
		defer z.close()
		next.ServeHTTP(z, r)
	})
}

// zipped decides at the first byte, when the headers are known.
type zipped struct {
	http.ResponseWriter
	decided bool
	zip     *gzip.Writer // nil: as it comes
}

// Unwrap is for http.ResponseController.
func (z *zipped) Unwrap() http.ResponseWriter { return z.ResponseWriter }

func (z *zipped) WriteHeader(status int) {
	if !z.decided && status >= 200 {
		z.decided = true
		h := z.Header()
		n, err := strconv.Atoi(h.Get("Content-Length"))
		if status == http.StatusOK && isText(h.Get("Content-Type")) && h.Get("Content-Encoding") == "" && (err != nil || n > packet) {
			h.Del("Content-Length")
			h.Del("Accept-Ranges")
			h.Set("Content-Encoding", "gzip")
			h.Add("Vary", "Accept-Encoding")
			if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
				h.Set("Etag", "W/"+tag)
			}
			z.zip = zippers.Get().(*gzip.Writer)
			z.zip.Reset(z.ResponseWriter)
		}
	}
	z.ResponseWriter.WriteHeader(status)
}

func isText(kind string) bool {
	kind, _, _ = strings.Cut(kind, ";")
	switch kind = strings.TrimSpace(kind); kind {
	case "text/event-stream":
		return false
	case "application/json", "application/javascript", "image/svg+xml", "application/manifest+json":
		return true
	}
	return strings.HasPrefix(kind, "text/")
}

func (z *zipped) Write(p []byte) (int, error) {
	if !z.decided {
		if z.Header().Get("Content-Type") == "" {
			z.Header().Set("Content-Type", http.DetectContentType(p))
		}
		z.WriteHeader(http.StatusOK)
	}
	if z.zip != nil {
		return z.zip.Write(p)
	}
	return z.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController.
func (z *zipped) FlushError() error {
	if z.zip != nil {
		if err := z.zip.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(z.ResponseWriter).Flush()
}

func (z *zipped) close() {
	if z.zip != nil {
		_ = z.zip.Close() // a reader that went away is no event
		zippers.Put(z.zip)
		z.zip = nil
	}
}

// writeMade answers with something new, which nobody keeps.
func (s *Server) writeMade(w http.ResponseWriter, r *http.Request, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.writeError(w, r, fmt.Errorf("write the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(append(body, '\n')) // a reader that went away is no event
}
