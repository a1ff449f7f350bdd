package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/pkg/sftp"

	"github.com/liverec/liverec/pkg/failure"
)

// Codes of later drafts of the protocol that hosts send in version 3 as well.
const (
	codeFailure        = 4
	codeWriteProtect   = 12
	codeNoSpace        = 14
	codeQuota          = 15
	codeNameNotAllowed = 20
)

// answer reports whether an error is what the SFTP server said, so that the connection is a good one.
func answer(err error) bool {
	_, status := errors.AsType[*sftp.StatusError](err)
	return status || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) ||
		errors.Is(err, failure.ErrAbsent) || errors.Is(err, failure.ErrDamaged) || errors.Is(err, fs.ErrExist)
}

// trouble makes an error one that says who can help. c may be nil.
func (t *Target) trouble(ctx context.Context, c *conn, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, ctx.Err()) // whatever the connection says: we have ended it
	}
	if _, ok := errors.AsType[*failure.Error](err); ok {
		return err
	}
	e := &failure.Error{Op: op, Kind: failure.Transient, Err: err}
	var code uint32
	if s, ok := errors.AsType[*sftp.StatusError](err); ok {
		code = s.Code
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Hint = failure.NeedsHuman, fmt.Sprintf("On %s, let %s write there: `chown -R %s %s`, or name another folder.", t.cfg.Host, t.cfg.User, t.cfg.User, t.cfg.Path)
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Hint = failure.NeedsHuman, fmt.Sprintf("Make the folder %s on %s, and let %s write to it.", t.cfg.Path, t.cfg.Host, t.cfg.User)
	case errors.Is(err, syscall.ENOTDIR):
		e.Kind, e.Hint = failure.NeedsHuman, fmt.Sprintf("Something in %s on %s is a file where a folder has to be: name another folder.", t.cfg.Path, t.cfg.Host)
	case code == codeNoSpace || code == codeQuota:
		e.Kind, e.Hint = failure.NeedsHuman, t.roomHint()
	case code == codeWriteProtect:
		e.Kind, e.Hint = failure.NeedsHuman, fmt.Sprintf("%s on %s is mounted read-only: mount it for writing or name another folder.", t.cfg.Path, t.cfg.Host)
	case code == codeNameNotAllowed:
		e.Kind, e.Hint = failure.Permanent, "The host takes no such name: use another --name."
	case code == codeFailure && c != nil:
		// All that OpenSSH says of a full disk is "Failure".
		if full := t.full(c, op); full != nil {
			return full
		}
		e.Hint = fmt.Sprintf("The host does not say why: look at the disk and the quota of %s on %s.", t.cfg.User, t.cfg.Host)
	}
	return e
}

func (t *Target) roomHint() string {
	return fmt.Sprintf("The disk or the quota of %s on %s is used up: free some space or name another folder.", t.cfg.Path, t.cfg.Host)
}

// full is an error if the host says that its disk is full. A host that cannot say it is believed to have room.
func (t *Target) full(c *conn, op string) error {
	if !c.has(extSpace) {
		return nil
	}
	s, err := c.sftp.StatVFS(t.cfg.Path)
	if err != nil || s.Frsize == 0 || s.Bavail*s.Frsize >= lowSpace {
		return nil
	}
	return &failure.Error{Op: op, Kind: failure.NeedsHuman, Code: fmt.Sprintf("the disk is full: %d bytes are left", s.Bavail*s.Frsize), Hint: t.roomHint()}
}
