package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/qr"
	"github.com/liverec/liverec/pkg/failure"
)

func loginFlags() []cli.Flag {
	return []cli.Flag{text("cookies", "./cookies.json", "the cookie file that is written, in the form of biliup, for its owner only")}
}

// login gets a login by a QR code. Nothing that it prints is a secret of the account: the code gives us the login of
// whoever scans it, not the other way round.
func login(c *cli.Context, std streams) error {
	o, err := globals(c)
	if err == nil {
		err = only(c, 1, 1, "the name of the site")
	}
	if err != nil {
		return err
	}
	if site := c.Args().First(); site != "bilibili" {
		return usagef("liverec login: %q is no site that one can log in to; right would be `liverec login bilibili`", clip(site))
	}
	path := c.String("cookies")
	if path == "" || strings.ContainsRune(path, 0) {
		return usagef("%s: %q is no file; name one such as ./cookies.json", label(c, "cookies"), clip(path))
	}
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return usagef("%s: %s is a folder; name a file such as %s/cookies.json", label(c, "cookies"), clip(path), clip(strings.TrimSuffix(path, "/")))
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()

	account, err := bilibili.Login(ctx, bilibili.Config{Log: zerolog.Nop()}, path, loginScreen(std, o.noProgress))
	if err != nil {
		if ctx.Err() != nil {
			return &exitStatus{exitError, "liverec: stopped; nothing was written"}
		}
		return err
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	who, err := bilibili.NewClient(bilibili.Config{Account: account, Log: zerolog.Nop()}).Check(within)
	if err != nil && failure.KindOf(err) == failure.NeedsHuman {
		return err
	}
	name := fmt.Sprintf("user %d", account.Credentials().MID())
	if err == nil {
		name = fmt.Sprintf("%s (user %d)", oneLine(who.Name), who.MID)
	}
	until := ""
	if t := account.Credentials().Expires(); !t.IsZero() {
		until = " until " + t.Local().Format(time.DateOnly)
	}
	if _, werr := fmt.Fprintf(std.out, "Logged in as %s%s. A running liverec renews the login in time.\nThe cookie file is %s.\n", name, until, account.Path()); werr != nil {
		return fmt.Errorf("write: %w", werr)
	}
	if err != nil {
		_, _ = fmt.Fprintf(std.err, "liverec: the login could not be tried: %s\n", oneLine(err.Error())) // stderr is the last place to say so
	}
	return nil
}

// loginScreen draws each code and says what to do with it.
func loginScreen(std streams, plain bool) func(bilibili.LoginStep) {
	_, colored := isTerminal(std.out)
	colored = colored && !plain && os.Getenv("NO_COLOR") == ""
	shown := 0
	return func(s bilibili.LoginStep) {
		if s.Scanned {
			_, _ = fmt.Fprintln(std.out, "Scanned. Now confirm on the phone.")
			return
		}
		if shown++; shown > 1 {
			_, _ = fmt.Fprintln(std.out, "\nThe code has ended. Here is a new one:")
		}
		code, err := qr.Encode(s.URL)
		if err == nil {
			_, _ = fmt.Fprintln(std.out, strings.Join(code.Lines(colored), "\n"))
		} else {
			_, _ = fmt.Fprintln(std.out, "The address is too long for a code here; make one of it elsewhere.")
		}
		_, _ = fmt.Fprintf(std.out, "Scan this with the Bilibili app, until %s. The code says:\n%s\n", s.Expires.Local().Format(time.TimeOnly), oneLine(s.URL))
	}
}
