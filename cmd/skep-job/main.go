// Command skep-job is the first process of a job's container: it unpacks the
// job's tree, runs its command there, hides the job's secrets in what the
// command writes, and hands back the files that it leaves. It links the standard
// library alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"skep/services/worker/artefact"
	"skep/services/worker/output"
	"skep/services/worker/postscript"
	"skep/services/worker/tree"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `skep-job runs a command in the tree of a job. The worker starts it. A task's own image makes it the entrypoint,
so that files which the task leaves in /work/artefacts are kept:

   COPY --from=skep-worker /skep-job /skep-job
   ENTRYPOINT ["/skep-job", "--"]

Usage:
   skep-job [flags] -- COMMAND [ARGUMENT...]

Example:
   skep-job -tree /skep-job -work /work -- /skep check

What the worker asks for is in the environment: SKEP_JOB_POSTSCRIPT, SKEP_JOB_ARTEFACTS, SKEP_JOB_ANSWER,
SKEP_JOB_DEADLINE. The command does not see these.

Exit codes: the command's, 128 and the signal's number if one ended it, 2 usage, 125 the tree is of no use,
127 the command cannot be started.

`

// Exit codes of its own, as containers have them.
const (
	exitUsage   = 2
	exitTree    = 125
	exitCommand = 127
	exitSignal  = 128
)

// defaultGrace is what the command has between the request to end and its end.
// The container's own must be longer.
const defaultGrace = 8 * time.Second

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("skep-job", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	parts := flags.String("tree", "", "folder with the parts of the tree's archive, in the order of their names; empty: there is no tree")
	work := flags.String("work", "/work", "folder that the tree is put into, and where the command runs")
	hide := flags.String("secrets", "/run/secrets", "folder with the secrets to hide")
	grace := flags.Duration("grace", defaultGrace, "what the command has to end when it is asked to")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	case flags.NArg() == 0:
		flags.Usage()
		return exitUsage
	}
	begun := time.Now()
	asked, err := ask(os.LookupEnv)
	if err != nil {
		fmt.Fprintln(stderr, "skep-job:", err)
		return exitUsage
	}
	if *parts != "" {
		if err := unpack(*parts, *work); err != nil {
			fmt.Fprintln(stderr, "skep-job: unpack the tree:", err)
			return exitTree
		}
	}
	if asked.artefacts {
		if err := os.MkdirAll(filepath.Join(*work, artefact.Folder), 0o755); err != nil {
			fmt.Fprintln(stderr, "skep-job: make a folder for artefacts:", err)
			return exitTree
		}
	}
	mask, err := secrets(*hide)
	if err != nil {
		fmt.Fprintln(stderr, "skep-job: read the secrets to hide:", err)
		return exitTree
	}
	out, errs := mask.Writer(stdout), mask.Writer(stderr)
	said, answer := io.Writer(out), output.Buffer{Most: postscript.MaxAnswer}
	if asked.answer {
		said = io.MultiWriter(out, &answer)
	}
	ready := time.Now()
	within, cancel := asked.within(ctx)
	code, err := execute(within, flags.Args(), *work, *grace, said, errs)
	ended, late := time.Now(), errors.Is(context.Cause(within), errLate)
	cancel()
	if e := errors.Join(out.Close(), errs.Close()); e != nil && code == 0 {
		code, err = exitTree, fmt.Errorf("write its output: %w", e)
	}
	if err != nil {
		fmt.Fprintln(stderr, "skep-job:", err)
	}
	if ctx.Err() != nil { // who ended the job waits for its last word, and not for what it leaves
		asked.artefacts, asked.answer = false, false
	}
	note := postscript.Note{Late: late, Memory: killedForMemory(), Begun: begun, Ready: ready, Ended: ended}
	if asked.answer {
		note.Answer = append([]byte{}, answer.Bytes()...) // it may be empty
	}
	if err := asked.handBack(stdout, *work, note); err != nil {
		fmt.Fprintln(stderr, "skep-job: hand back what the command leaves:", err)
	}
	return code
}

// unpack reads an archive in parts.
func unpack(parts, work string) (err error) {
	names, err := filepath.Glob(filepath.Join(parts, "*"))
	if err != nil {
		return err
	}
	var readers []io.Reader
	for _, name := range names { // sorted
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		readers = append(readers, f)
	}
	return tree.Unpack(io.MultiReader(readers...), work, 0)
}

func secrets(dir string) (*output.Mask, error) {
	var all [][]byte
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, content)
	}
	return output.NewMask(all...), nil
}

// execute runs the command until it ends, or until grace is over after it was
// asked to. What it leaves in the background has as long, and no more: it goes
// with the container.
func execute(ctx context.Context, command []string, dir string, grace time.Duration, stdout, stderr io.Writer) (int, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = environment(cmd.Environ())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		return exitCommand, fmt.Errorf("start the command: %w", err)
	}
	err := cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal()), nil
	}
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, exec.ErrWaitDelay) {
		return exitCommand, err
	}
	return cmd.ProcessState.ExitCode(), nil
}
