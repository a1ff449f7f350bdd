package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// started is when this process began.
var started = time.Now()

// signals gives the soft stop, which the first signal ends, and the hard one, which the second ends. A hang-up is such a
// signal too, unless somebody wants to read a file again at one. done gives the signals back to the runtime, so that one
// more kills.
func signals(parent context.Context, first, second, hangup func()) (soft, hard context.Context, done func()) {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	soft, stopSoft := context.WithCancel(parent)
	hard, stopHard := context.WithCancel(parent)
	over := make(chan struct{})
	ended := make(chan struct{})
	go func() { // ends with done, which waits for it
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-over:
				return
			case sig := <-ch:
				if sig == syscall.SIGHUP && hangup != nil {
					hangup()
					n--
					continue
				}
				switch n {
				case 0:
					first()
					stopSoft()
				case 1:
					second()
					stopHard()
					signal.Stop(ch)
				}
			}
		}
	}()
	return soft, hard, func() {
		signal.Stop(ch)
		close(over)
		<-ended
		stopSoft()
		stopHard()
	}
}

// runningSelf is this process as status shows it.
func runningSelf() (pid int, since time.Time, ok bool) { return os.Getpid(), started, true }
