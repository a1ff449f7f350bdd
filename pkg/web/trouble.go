package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// trouble is an answer that is not what was asked for.
type trouble struct {
	status int
	code   string // for programs; docs/api.md lists them
	text   string // for people
	key    string // the setting that is wrong, "" if it is none
}

// troubleOf makes an answer of what a View or a Commander said. Whatever is none of their known errors is the program's
// own trouble: its text goes to the log, not to the client.
func troubleOf(err error) trouble {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return trouble{http.StatusUnprocessableEntity, "refused", r.Text, r.Key}
	}
	switch {
	case errors.Is(err, ErrNone):
		return trouble{http.StatusNotFound, "not_found", "there is no such room or broadcast", ""}
	case errors.Is(err, ErrExists):
		return trouble{http.StatusConflict, "exists", "there is a room with that name or that address already", ""}
	case errors.Is(err, ErrReadOnly):
		return trouble{http.StatusConflict, "read_only", "the room stands in the config file; change it there", ""}
	case errors.Is(err, ErrStopping):
		return trouble{http.StatusServiceUnavailable, "stopping", "liverec is stopping and takes no more changes", ""}
	case errors.Is(err, context.DeadlineExceeded):
		return trouble{http.StatusServiceUnavailable, "busy", "the answer took too long", ""}
	}
	return trouble{http.StatusInternalServerError, "internal", "liverec could not do this; its log says why", ""}
}

func writeTrouble(w http.ResponseWriter, t trouble) {
	var body struct {
		Error struct {
			Code string `json:"code"`
			Text string `json:"text"`
			Key  string `json:"key,omitempty"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Text, body.Error.Key = t.code, t.text, t.key
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Del("Etag")
	w.WriteHeader(t.status)
	_ = json.NewEncoder(w).Encode(body) // a reader that went away is no event
}
