package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Load asks for one path, again and again, on connections that stay.
type Load struct {
	Network, Address string
	Path             string
	Connections      int
}

// Result is what a load met with.
type Result struct {
	Requests  int
	PerSecond float64
	P50, P99  time.Duration
}

// Run sends requests for a time: as many as go where rate is 0, else so many
// in a second, and then measures from when each was due, so that a stall
// counts for all that it held up.
func (l Load) Run(ctx context.Context, rate int, duration time.Duration) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now()
	end := begin.Add(duration)
	times := make([][]time.Duration, l.Connections)
	problems := make([]error, l.Connections)
	var wg sync.WaitGroup
	for i := range l.Connections {
		wg.Go(func() {
			times[i], problems[i] = l.one(ctx, begin, end, rate, i)
			if problems[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(problems...); err != nil {
		return Result{}, err
	}
	took := time.Since(begin)
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	if len(all) == 0 {
		return Result{}, errors.New("no request was answered")
	}
	return Result{
		Requests:  len(all),
		PerSecond: float64(len(all)) / took.Seconds(),
		P50:       all[len(all)/2],
		P99:       all[len(all)*99/100],
	}, nil
}

func (l Load) one(ctx context.Context, begin, end time.Time, rate, index int) ([]time.Duration, error) {
	c, err := net.Dial(l.Network, l.Address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	r := bufio.NewReader(c)
	request := []byte("GET " + l.Path + " HTTP/1.1\r\nHost: docker\r\n\r\n")
	var times []time.Duration
	for n := 0; ; n++ {
		due := time.Now()
		if rate > 0 {
			due = begin.Add(time.Duration(n*l.Connections+index) * time.Second / time.Duration(rate))
			if !waitUntil(ctx, due) {
				return times, ctx.Err()
			}
		}
		if due.After(end) {
			return times, nil
		}
		if _, err := c.Write(request); err != nil {
			return nil, err
		}
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s answers %s", l.Path, response.Status)
		}
		times = append(times, time.Since(due))
	}
}

func waitUntil(ctx context.Context, due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Memory is what a process holds now, and held at most, in bytes.
func Memory(pid int) (now, most int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	field := func(name string) int64 {
		_, rest, _ := strings.Cut(string(status), "\n"+name+":")
		value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, convErr := strconv.ParseInt(value, 10, 64)
		err = errors.Join(err, convErr)
		return n << 10
	}
	now, most = field("VmRSS"), field("VmHWM")
	return now, most, err
}

// CPU is the processor time that a process has used.
func CPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// proc_pid_stat(5): the name may hold spaces; utime and stime follow as
	// the 12th and 13th of what is behind it.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("cannot read %q", stat)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0, err
	}
	const tick = time.Second / 100 // USER_HZ, on every platform of Go
	return time.Duration(user+system) * tick, nil
}
