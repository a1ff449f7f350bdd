//go:build !linux

package httpflv

import (
	"io"
	"net"
)

// patient reads from a connection as it is.
func patient(c net.Conn) io.Reader { return c }
