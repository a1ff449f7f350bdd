package web

import (
	"bytes"
	"log"

	"github.com/rs/zerolog"
)

// errorLog is where net/http complains about clients (bad handshakes, broken requests). It takes nothing else, and would
// write past our logger.
func errorLog(to zerolog.Logger) *log.Logger { return log.New(complaints{to}, "", 0) }

type complaints struct{ log zerolog.Logger }

func (c complaints) Write(p []byte) (int, error) {
	c.log.Debug().Bytes("complaint", bytes.TrimSpace(p)).Msg("a client was not understood")
	return len(p), nil
}
