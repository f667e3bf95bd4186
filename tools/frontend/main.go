// A hostile BuildKit frontend for the tests: it asks the Engine for whatever the `# syntax=` line says, past the Dockerfile's own rules.
//
//	# syntax=IMAGE cache=ID secret=ID local=NAME,HINT image=REF network=host security=insecure -- SCRIPT
//
// runs SCRIPT in busybox:base with the caches at /cache0, /cache1 …, the secrets at /secret0 …, the folders of sessions at /local0 …, the
// images at /image0 …, and everything that the frontend itself was told in $TOLD.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	stdio := func(context.Context, string) (net.Conn, error) { return stdioConn{os.Stdin, os.Stdout}, nil }
	connection, err := grpc.NewClient("passthrough:///buildkit", grpc.WithContextDialer(stdio),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	bridge := gateway.NewLLBBridgeClient(connection)
	if _, err := bridge.Ping(ctx, &gateway.PingRequest{}); err != nil {
		return err
	}
	solved, err := bridge.Solve(ctx, &gateway.SolveRequest{Definition: wish(commandLine()).definition(), AllowResultReturn: true, AllowResultArrayRef: true})
	if err != nil {
		_, err = bridge.Return(ctx, &gateway.ReturnRequest{Error: &status.Status{Code: 2, Message: err.Error()}})
		return err
	}
	_, err = bridge.Return(ctx, &gateway.ReturnRequest{Result: solved.Result})
	return err
}

// What stands after the image in the `# syntax=` line.
func commandLine() []string {
	for _, variable := range os.Environ() {
		_, option, _ := strings.Cut(variable, "=")
		if line, ok := strings.CutPrefix(option, "cmdline="); ok && strings.HasPrefix(variable, "BUILDKIT_FRONTEND_OPT_") {
			return strings.Fields(line)[1:]
		}
	}
	return nil
}

// One run of a script, and what it is to be given.
type graph struct {
	ops [][]byte
}

func (g *graph) add(op *pb.Op) *pb.Input {
	bytes, err := op.MarshalVT()
	if err != nil {
		panic(err)
	}
	g.ops = append(g.ops, bytes)
	return &pb.Input{Digest: string(digest.FromBytes(bytes))}
}

func (g *graph) source(identifier string, attrs map[string]string) *pb.Input {
	return g.add(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: identifier, Attrs: attrs}}})
}

func (g *graph) definition() *pb.Definition { return &pb.Definition{Def: g.ops} }

func wish(words []string) *graph {
	g := &graph{}
	inputs := []*pb.Input{g.source("docker-image://docker.io/library/busybox:base", nil)}
	exec := &pb.ExecOp{Mounts: []*pb.Mount{{Dest: "/", Input: 0, Output: 0}}}
	mount := func(kind string, mount *pb.Mount) {
		count := 0
		for _, other := range exec.Mounts {
			if strings.HasPrefix(other.Dest, "/"+kind) {
				count++
			}
		}
		mount.Dest = fmt.Sprintf("/%s%d", kind, count)
		mount.Output = -1
		exec.Mounts = append(exec.Mounts, mount)
	}
	input := func(source *pb.Input) int64 {
		inputs = append(inputs, source)
		return int64(len(inputs) - 1)
	}
	at := 0
	for ; at < len(words) && words[at] != "--"; at++ {
		kind, value, _ := strings.Cut(words[at], "=")
		switch kind {
		case "cache":
			mount(kind, &pb.Mount{Input: -1, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: value}})
		case "secret":
			mount(kind, &pb.Mount{Input: -1, MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: value, Mode: 0o400, Optional: true}})
		case "local":
			name, hint, _ := strings.Cut(value, ",")
			attrs := map[string]string{pb.AttrSharedKeyHint: hint, pb.AttrLocalUniqueID: fmt.Sprint(time.Now().UnixNano())}
			mount(kind, &pb.Mount{Input: input(g.source("local://"+name, attrs)), Readonly: true})
		case "image":
			mount(kind, &pb.Mount{Input: input(g.source("docker-image://"+value, nil)), Readonly: true})
		case "network":
			exec.Network = pb.NetMode_HOST
		case "security":
			exec.Security = pb.SecurityMode_INSECURE
		}
	}
	told := append(os.Environ(), fmt.Sprint(time.Now().UnixNano()))
	script := strings.Join(words[min(at+1, len(words)):], " ")
	exec.Meta = &pb.Meta{Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin", "TOLD=" + strings.Join(told, " | ")}, Cwd: "/"}
	last := g.add(&pb.Op{Inputs: inputs, Op: &pb.Op_Exec{Exec: exec}})
	g.add(&pb.Op{Inputs: []*pb.Input{last}})
	return g
}

// The frontend's standard input and output are its connection to BuildKit.
type stdioConn struct {
	io.Reader
	io.WriteCloser
}

func (stdioConn) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (stdioConn) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (stdioConn) SetDeadline(time.Time) error      { return nil }
func (stdioConn) SetReadDeadline(time.Time) error  { return nil }
func (stdioConn) SetWriteDeadline(time.Time) error { return nil }
