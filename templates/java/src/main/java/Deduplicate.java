import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.beam.fn.harness.ExternalWorkerService;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.StartWorkerRequest;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.StartWorkerResponse;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.extensions.python.PythonExternalTransform;
import org.apache.beam.sdk.io.TextIO;
import org.apache.beam.sdk.options.Description;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.options.PortablePipelineOptions;
import org.apache.beam.sdk.options.Validation;
import org.apache.beam.sdk.schemas.Schema;
import org.apache.beam.sdk.transforms.Create;
import org.apache.beam.sdk.transforms.MapElements;
import org.apache.beam.sdk.transforms.ToJson;
import org.apache.beam.sdk.values.PCollection;
import org.apache.beam.sdk.values.Row;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.Server;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.netty.NettyServerBuilder;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.stub.StreamObserver;

/** Judges the files of a directory, and writes the verdicts as JSON Lines. */
public class Deduplicate {
  /** Options of the command line. */
  public interface Options extends PipelineOptions {
    @Description("Directory of the images.")
    @Validation.Required
    String getInput();

    void setInput(String value);

    @Description("File of the verdicts.")
    @Validation.Required
    String getOutput();

    void setOutput(String value);

    @Description("HOST:PORT of expansion_service.py.")
    @Validation.Required
    String getExpansionService();

    void setExpansionService(String value);
  }

  public static void main(String[] arguments) throws IOException {
    PipelineOptionsFactory.register(Options.class);
    Options options = PipelineOptionsFactory.fromArgs(arguments).withValidation().as(Options.class);
    Server workers = startWorkers(options, arguments);
    try {
      create(options).run().waitUntilFinish();
    } finally {
      workers.shutdownNow();
    }
  }

  private static Pipeline create(Options options) throws IOException {
    Schema schema = Schema.builder().addStringField("uri").addStringField("source").build();
    Pipeline pipeline = Pipeline.create(options);
    PCollection<Row> images =
        pipeline.apply("Images", Create.of(rows(options.getInput(), schema)).withRowSchema(schema));
    PCollection<Row> verdicts =
        images.apply(
            "Deduplicate",
            PythonExternalTransform.<PCollection<Row>, PCollection<Row>>from(
                    "beam_dedup.beam_yaml.DeduplicateImages", options.getExpansionService())
                .withKwarg("near", true)
                .withKwarg("keep", "largest"));
    verdicts
        .apply("Format", ToJson.of())
        .apply("Write", TextIO.write().to(options.getOutput()).withoutSharding());
    return pipeline;
  }

  private static List<Row> rows(String directory, Schema schema) throws IOException {
    try (Stream<Path> files = Files.list(Paths.get(directory).toAbsolutePath())) {
      return files
          .filter(Files::isRegularFile)
          .sorted()
          .map(file -> Row.withSchema(schema).addValues(file.toString(), directory).build())
          .collect(Collectors.toList());
    }
  }

  /**
   * Serves the workers of the steps in Java from this process, on the loopback address.
   *
   * <p>The environment LOOPBACK cannot be used here. The expansion needs the address of the workers, and LOOPBACK
   * chooses it later, when the pipeline runs. Its server also listens on all addresses of the machine.
   */
  private static Server startWorkers(PipelineOptions options, String[] arguments) throws IOException {
    InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
    Server server =
        NettyServerBuilder.forAddress(address).addService(new Workers(arguments)).build().start();
    PortablePipelineOptions portable = options.as(PortablePipelineOptions.class);
    portable.setDefaultEnvironmentType("EXTERNAL");
    portable.setDefaultEnvironmentConfig("localhost:" + server.getPort());
    return server;
  }

  /** Gives every worker options of its own: a worker that ends stops the threads that belong to its options. */
  private static class Workers extends ExternalWorkerService {
    private final String[] arguments;

    Workers(String[] arguments) {
      super(PipelineOptionsFactory.create());
      this.arguments = arguments;
    }

    @Override
    public void startWorker(StartWorkerRequest request, StreamObserver<StartWorkerResponse> response) {
      PipelineOptions options = PipelineOptionsFactory.fromArgs(arguments).as(Options.class);
      new ExternalWorkerService(options).startWorker(request, response);
    }
  }
}
