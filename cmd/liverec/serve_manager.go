package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// manager is the service manager that started this process, if it wants to be told: systemd with Type=notify. Nothing
// depends on whether it hears.
type manager struct {
	socket   string        // "": nobody wants to know
	watchdog time.Duration // 0: nobody waits for a sign of life
	alive    func(ctx context.Context) error
}

func newManager(getenv func(string) string) *manager {
	m := &manager{socket: getenv("NOTIFY_SOCKET")}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m
	}
	if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 && m.socket != "" {
		m.watchdog = time.Duration(us) * time.Microsecond
	}
	return m
}

func (m *manager) String() string { return "watchdog" }

func (m *manager) say(text string) {
	if m.socket == "" {
		return
	}
	name := m.socket
	if strings.HasPrefix(name, "@") { // Linux has sockets without a file
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err == nil {
		_, _ = c.Write([]byte(text))
	}
}

func (m *manager) ready()    { m.say("READY=1") }
func (m *manager) stopping() { m.say("STOPPING=1") }

// reloading must be followed by ready.
func (m *manager) reloading() {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) == nil {
		m.say(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000))
	}
}

// feed gives a sign of life, if there is life: the ledger answers.
func (m *manager) feed(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, m.watchdog/2)
	defer cancel()
	if err := m.alive(within); err != nil {
		return err
	}
	m.say("WATCHDOG=1")
	return nil
}

// Run gives signs of life until ctx ends. Who asks too late is restarted by the manager, which is the point.
func (m *manager) Run(ctx context.Context) error {
	if m.watchdog == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(m.watchdog / 3)
	defer tick.Stop()
	for {
		_ = m.feed(ctx) // the log of whoever does not answer says why
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
